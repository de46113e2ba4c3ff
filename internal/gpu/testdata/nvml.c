// A stand-in for libnvidia-ml.so, built by the tests, with the answers of a
// machine that the -D switches describe. The layouts are those of nvml.h, taken
// from its documentation, not from our Go code, so that the two check each other.
#include <string.h>
#include <unistd.h>

typedef int ret;
typedef struct card { int n; } *dev;
static struct card cards[2] = {{0}, {1}};

struct memory_v1 { unsigned long long total, free, used; };
struct memory_v2 { unsigned int version; unsigned long long total, reserved, free, used; };
struct pci { char legacy[16]; unsigned int domain, bus, device, id, sub; char bus_id[32]; };
struct rates { unsigned int gpu, memory; };

#define GIB (1024ull * 1024 * 1024)
#define MIB (1024ull * 1024)

static int running;

static ret text(const char *s, char *buf, unsigned int len) {
	if (strlen(s) + 1 > len) return 7; // INSUFFICIENT_SIZE
	strcpy(buf, s);
	return 0;
}

#ifndef INIT
#define INIT 0
#endif

#ifdef OLD
ret nvmlInit(void) { running = 1; return 0; }
ret nvmlDeviceGetCount(unsigned int *n) { *n = 1; return 0; }
ret nvmlDeviceGetHandleByIndex(unsigned int i, dev *d) { *d = &cards[i]; return 0; }
#else
ret nvmlInit_v2(void) {
#ifdef HANG
	sleep(HANG);
#endif
	running = INIT == 0;
	return INIT;
}
ret nvmlDeviceGetCount_v2(unsigned int *n) { if (!running) return 1; *n = 2; return 0; }
ret nvmlDeviceGetHandleByIndex_v2(unsigned int i, dev *d) {
	if (i > 1) return 2;
#ifdef LOST
	if (i == LOST) return 15;
#endif
	*d = &cards[i];
	return 0;
}
ret nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12080; return 0; }
ret nvmlDeviceGetMemoryInfo_v2(dev d, struct memory_v2 *m) {
	if (m->version != (sizeof(struct memory_v2) | 2u << 24)) return 25; // ARGUMENT_VERSION_MISMATCH
#ifdef UNIFIED
	return 3;
#endif
	m->total = 24 * GIB; m->reserved = 400 * MIB; m->used = 3 * GIB; m->free = m->total - m->reserved - m->used;
	return 0;
}
ret nvmlDeviceGetCudaComputeCapability(dev d, int *major, int *minor) { *major = 8; *minor = 9; return 0; }
ret nvmlDeviceGetPciInfo_v3(dev d, struct pci *p) { memset(p, 0, sizeof *p); strcpy(p->bus_id, d->n ? "00000000:41:00.0" : "00000000:01:00.0"); return 0; }
ret nvmlDeviceGetEnforcedPowerLimit(dev d, unsigned int *mw) { if (d->n) return 3; *mw = 450000; return 0; }
#endif

ret nvmlShutdown(void) { running = 0; return 0; }
ret nvmlSystemGetDriverVersion(char *buf, unsigned int len) { return text("570.124.06", buf, len); }
ret nvmlDeviceGetName(dev d, char *buf, unsigned int len) { return text(d->n ? "Tesla T4" : "NVIDIA GeForce RTX 4090", buf, len); }
ret nvmlDeviceGetUUID(dev d, char *buf, unsigned int len) { return text(d->n ? "GPU-11111111-2222-3333-4444-555555555555" : "GPU-0a1b2c3d-0000-1111-2222-333344445555", buf, len); }
#ifndef UNIFIED
ret nvmlDeviceGetMemoryInfo(dev d, struct memory_v1 *m) { m->total = 8 * GIB; m->used = 1 * GIB; m->free = 7 * GIB; return 0; }
#endif
ret nvmlDeviceGetUtilizationRates(dev d, struct rates *r) { if (d->n) return 3; r->gpu = 37; r->memory = 5; return 0; }
ret nvmlDeviceGetTemperature(dev d, int sensor, unsigned int *t) { if (d->n || sensor != 0) return 999; *t = 41; return 0; }
ret nvmlDeviceGetPowerUsage(dev d, unsigned int *mw) { if (d->n) return 3; *mw = 21510; return 0; }
