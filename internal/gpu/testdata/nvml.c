// A stand-in for libnvidia-ml.so, built by the tests. The layouts are those of
// nvml.h, taken from its documentation, not from our Go code, so that the two
// check each other.
//
// What it answers is that of a machine with two cards, unless the file "script"
// in the library's own folder says otherwise. Time is counted in looks: each
// nvmlDeviceGetCount begins one, the first is 0. A line is
//
//	FROM-TO KEY VALUE…      (TO may be left out: for ever)
//
// and the last line that fits counts. Keys:
//
//	count N                       this many cards (0 to 2); more than before only after the next nvmlInit
//	fail.FUNCTION CODE            the function fails, for all cards
//	hang.FUNCTION 1               it does not return until there is a file "release" (or 20 s)
//	cardN.lost CODE               every call about the card fails, and goes on failing until the next nvmlInit
//	cardN.fail.FUNCTION CODE      one function fails for this card
//	cardN.used MIB                memory used; cardN.name, cardN.throttle HEX, cardN.mig 1
//	cardN.spends MJ               its counter of energy grows by so much with each call
//	cardN.process KIND PID MIB    one line each; KIND is compute or graphics, MIB - is "not told"
//
// -DPROCESS_EXTRA makes the entries of the newest lists of processes 32 bytes
// long, as drivers 530 to 535.86 had them. -DPROCESS_WIPES clears all the room
// that the caller has before the entries are written.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int ret;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct card { int n, mig; } *dev;
static struct card cards[2] = {{0, 0}, {1, 0}}, parts[2] = {{0, 1}, {0, 2}};

struct memory_v1 { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };
struct pci { char legacy[16]; u32 domain, bus, device, id, sub; char bus_id[32]; };
struct rates { u32 gpu, memory; };
struct process_v1 { u32 pid; u64 used; };
struct process_v2 { u32 pid; u64 used; u32 gi, ci; };
struct process_extra { u32 pid; u64 used; u32 gi, ci; u64 protected; };
struct attributes { u32 sms, copy, dec, enc, jpg, ofa, gi, ci; u64 mib; };

#define GIB (1024ull * 1024 * 1024)
#define MIB (1024ull * 1024)

static int running, look = -1, dead[2];
static u32 seen;

struct line { int from, to; char key[64], value[160]; };
static struct line script[256];
static int lines;

static void beside(const char *name, char *out, size_t len) {
	Dl_info i;
	dladdr((void *)&beside, &i);
	snprintf(out, len, "%s", i.dli_fname);
	char *slash = strrchr(out, '/');
	snprintf(slash + 1, len - (slash + 1 - out), "%s", name);
}

static void read_script(void) {
	char name[4096], text[512];
	beside("script", name, sizeof name);
	lines = 0;
	FILE *f = fopen(name, "r");
	if (!f) return;
	while (fgets(text, sizeof text, f) && lines < 256) {
		struct line *l = &script[lines];
		char span[32];
		l->value[0] = 0;
		if (sscanf(text, "%31s %63s %159[^\n]", span, l->key, l->value) < 2 || span[0] == '#') continue;
		char *dash = strchr(span, '-');
		l->from = atoi(span);
		l->to = !dash ? l->from : dash[1] ? atoi(dash + 1) : 1 << 30;
		lines++;
	}
	fclose(f);
}

static const char *get(const char *key) {
	int now = look < 0 ? 0 : look;
	for (int i = lines - 1; i >= 0; i--)
		if (script[i].from <= now && now <= script[i].to && !strcmp(script[i].key, key)) return script[i].value;
	return 0;
}

static const char *of(dev d, const char *what, const char *fn) {
	char key[128];
	snprintf(key, sizeof key, "card%d.%s%s", d->n, what, fn);
	return get(key);
}

static ret enter(const char *fn, dev d) {
	char key[128], name[4096];
	const char *v;
	snprintf(key, sizeof key, "hang.%s", fn);
	if (get(key)) {
		beside("release", name, sizeof name);
		for (int i = 0; i < 20000 && access(name, F_OK); i++) usleep(1000);
	}
	snprintf(key, sizeof key, "fail.%s", fn);
	if ((v = get(key))) return atoi(v);
	if (!d) return 0;
	if (!running) return 1;
	if ((v = of(d, "lost", ""))) dead[d->n] = atoi(v);
	if (dead[d->n]) return dead[d->n];
	if ((v = of(d, "fail.", fn))) return atoi(v);
	return 0;
}
#define ENTER(d) do { ret r_ = enter(__func__, d); if (r_) return r_; } while (0)

static ret text(const char *s, char *buf, u32 len) {
	if (strlen(s) + 1 > len) return 7; // INSUFFICIENT_SIZE
	strcpy(buf, s);
	return 0;
}

static ret start(const char *fn) {
	read_script();
	ret r = enter(fn, 0);
	running = r == 0;
	dead[0] = dead[1] = 0;
	const char *v = get("count");
	seen = v ? (u32)atoi(v) : 2;
	return r;
}
ret nvmlInit_v2(void) { return start(__func__); }
ret nvmlInit(void) { return start(__func__); }
ret nvmlShutdown(void) { running = 0; return 0; }

static ret count(const char *fn, u32 *n, u32 most) {
	if (!running) return 1;
	look++;
	read_script();
	ret r = enter(fn, 0);
	const char *v = get("count");
	*n = v ? (u32)atoi(v) : most;
	if (*n > seen) *n = seen;
	seen = *n;
	return r;
}
ret nvmlDeviceGetCount_v2(u32 *n) { return count(__func__, n, 2); }
ret nvmlDeviceGetCount(u32 *n) { return count(__func__, n, 1); }
static ret handle(const char *fn, u32 i, dev *d) {
	if (i > 1) return 2;
	*d = &cards[i];
	return enter(fn, *d);
}
ret nvmlDeviceGetHandleByIndex_v2(u32 i, dev *d) { return handle(__func__, i, d); }
ret nvmlDeviceGetHandleByIndex(u32 i, dev *d) { return handle(__func__, i, d); }

ret nvmlSystemGetDriverVersion(char *buf, u32 len) { return text("570.124.06", buf, len); }
ret nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12080; return 0; }

ret nvmlDeviceGetName(dev d, char *buf, u32 len) {
	ENTER(d);
	const char *s = of(d, "name", "");
	if (d->mig) return text("NVIDIA A100-SXM4-40GB MIG 3g.20gb", buf, len);
	return text(s ? s : d->n ? "Tesla T4" : "NVIDIA GeForce RTX 4090", buf, len);
}
ret nvmlDeviceGetUUID(dev d, char *buf, u32 len) {
	ENTER(d);
	if (d->mig) return text(d->mig == 1 ? "MIG-aaaa" : "MIG-bbbb", buf, len);
	return text(d->n ? "GPU-11111111-2222-3333-4444-555555555555" : "GPU-0a1b2c3d-0000-1111-2222-333344445555", buf, len);
}
static u64 used(dev d) { const char *v = of(d, "used", ""); return v ? strtoull(v, 0, 10) * MIB : 3 * GIB; }
ret nvmlDeviceGetMemoryInfo_v2(dev d, struct memory_v2 *m) {
	ENTER(d);
	if (m->version != (sizeof(struct memory_v2) | 2u << 24)) return 25; // ARGUMENT_VERSION_MISMATCH
	m->total = 24 * GIB; m->reserved = 400 * MIB; m->used = used(d); m->free = m->total - m->reserved - m->used;
	return 0;
}
ret nvmlDeviceGetMemoryInfo(dev d, struct memory_v1 *m) { ENTER(d); m->total = 8 * GIB; m->used = 1 * GIB; m->free = 7 * GIB; return 0; }
ret nvmlDeviceGetCudaComputeCapability(dev d, int *major, int *minor) { ENTER(d); *major = 8; *minor = 9; return 0; }
ret nvmlDeviceGetNumGpuCores(dev d, u32 *n) { ENTER(d); *n = d->n ? 16385 : 16384; return 0; }
ret nvmlDeviceGetMemoryBusWidth(dev d, u32 *n) { ENTER(d); *n = 384; return 0; }
ret nvmlDeviceGetPciInfo_v3(dev d, struct pci *p) { ENTER(d); memset(p, 0, sizeof *p); strcpy(p->bus_id, d->n ? "00000000:41:00.0" : "00000000:01:00.0"); return 0; }
ret nvmlDeviceGetEnforcedPowerLimit(dev d, u32 *mw) { ENTER(d); if (d->n) return 3; *mw = 450000; return 0; }
ret nvmlDeviceGetUtilizationRates(dev d, struct rates *r) { ENTER(d); if (d->n) return 3; r->gpu = 37; r->memory = 5; return 0; }
ret nvmlDeviceGetTemperature(dev d, int sensor, u32 *t) { ENTER(d); if (d->n || sensor != 0) return 999; *t = 41; return 0; }
struct temperature { u32 version; int sensor, celsius; };
ret nvmlDeviceGetTemperatureV(dev d, struct temperature *t) { ENTER(d); if (t->version != (sizeof *t | 1u << 24)) return 25; if (d->n || t->sensor != 0) return 999; t->celsius = 41; return 0; }
ret nvmlDeviceGetPowerUsage(dev d, u32 *mw) { ENTER(d); if (d->n) return 3; *mw = 21510; return 0; }
ret nvmlDeviceGetTotalEnergyConsumption(dev d, u64 *mj) {
	static u64 spent;
	ENTER(d);
	if (d->n) return 3;
	const char *v = of(d, "spends", "");
	*mj = 1234500 + spent;
	spent += v ? strtoull(v, 0, 10) : 0;
	return 0;
}
ret nvmlDeviceGetFanSpeed(dev d, u32 *p) { ENTER(d); if (d->n) return 3; *p = 30; return 0; }
ret nvmlDeviceGetClockInfo(dev d, int type, u32 *mhz) { ENTER(d); if (d->n) return 3; *mhz = type == 1 ? 210 : type == 2 ? 405 : 9999; return 0; }
ret nvmlDeviceGetMaxClockInfo(dev d, int type, u32 *mhz) { ENTER(d); if (d->n) return 3; *mhz = type == 1 ? 3120 : type == 2 ? 10501 : 9999; return 0; }
ret nvmlDeviceGetCurrentClocksThrottleReasons(dev d, u64 *bits) {
	ENTER(d);
	const char *v = of(d, "throttle", "");
	if (d->n) return 3;
	*bits = v ? strtoull(v, 0, 16) : 1;
	return 0;
}
ret nvmlDeviceGetCurrPcieLinkGeneration(dev d, u32 *n) { ENTER(d); if (d->n) return 3; *n = 1; return 0; }
ret nvmlDeviceGetMaxPcieLinkGeneration(dev d, u32 *n) { ENTER(d); if (d->n) return 3; *n = 4; return 0; }
ret nvmlDeviceGetCurrPcieLinkWidth(dev d, u32 *n) { ENTER(d); if (d->n) return 3; *n = 8; return 0; }
ret nvmlDeviceGetMaxPcieLinkWidth(dev d, u32 *n) { ENTER(d); if (d->n) return 3; *n = 16; return 0; }
ret nvmlDeviceGetEccMode(dev d, u32 *now, u32 *then) { ENTER(d); if (d->n) return 3; *now = 0; *then = 1; return 0; }
ret nvmlDeviceGetMigMode(dev d, u32 *now, u32 *then) { ENTER(d); if (!of(d, "mig", "")) return 3; *now = *then = 1; return 0; }
ret nvmlDeviceGetPersistenceMode(dev d, u32 *on) { ENTER(d); if (d->n) return 3; *on = 1; return 0; }
ret nvmlDeviceGetDisplayMode(dev d, u32 *on) { ENTER(d); if (d->n) return 3; *on = 1; return 0; }
ret nvmlDeviceGetDisplayActive(dev d, u32 *on) { ENTER(d); if (d->n) return 3; *on = 0; return 0; }
ret nvmlDeviceGetMaxMigDeviceCount(dev d, u32 *n) { ENTER(d); *n = 7; return 0; }
ret nvmlDeviceGetMigDeviceHandleByIndex(dev d, u32 i, dev *m) { ENTER(d); if (i != 0 && i != 4) return 6; *m = &parts[i ? 1 : 0]; return 0; }
ret nvmlDeviceGetAttributes_v2(dev d, struct attributes *a) { ENTER(d); if (!d->mig) return 3; memset(a, 0, sizeof *a); a->sms = 42; a->mib = 19968; return 0; }

// processes writes the entries of one kind and says how many there are.
static ret processes(const char *fn, dev d, const char *kind, u32 *n, void *out, size_t size) {
	ret r = enter(fn, d);
	if (r) return r;
	char key[64], k[16], mib[32];
	u32 pid, have = 0, room = *n;
	int now = look < 0 ? 0 : look;
#ifdef PROCESS_WIPES
	memset(out, 0, room * size);
#endif
	snprintf(key, sizeof key, "card%d.process", d->n);
	for (int i = 0; i < lines; i++) {
		if (script[i].from > now || now > script[i].to || strcmp(script[i].key, key)) continue;
		if (sscanf(script[i].value, "%15s %u %31s", k, &pid, mib) != 3 || strcmp(k, kind)) continue;
		if (have < room) {
			struct process_extra e = {pid, mib[0] == '-' ? ~0ull : strtoull(mib, 0, 10) * MIB, ~0u, ~0u, 0};
			memcpy((char *)out + have * size, &e, size);
		}
		have++;
	}
	*n = have;
	return have > room ? 7 : 0;
}
#ifdef PROCESS_EXTRA
#define NEWEST sizeof(struct process_extra)
#else
#define NEWEST sizeof(struct process_v2)
#endif
ret nvmlDeviceGetComputeRunningProcesses_v3(dev d, u32 *n, void *p) { return processes(__func__, d, "compute", n, p, NEWEST); }
ret nvmlDeviceGetComputeRunningProcesses_v2(dev d, u32 *n, void *p) { return processes(__func__, d, "compute", n, p, sizeof(struct process_v2)); }
ret nvmlDeviceGetComputeRunningProcesses(dev d, u32 *n, void *p) { return processes(__func__, d, "compute", n, p, sizeof(struct process_v1)); }
ret nvmlDeviceGetGraphicsRunningProcesses_v3(dev d, u32 *n, void *p) { return processes(__func__, d, "graphics", n, p, NEWEST); }
ret nvmlDeviceGetGraphicsRunningProcesses_v2(dev d, u32 *n, void *p) { return processes(__func__, d, "graphics", n, p, sizeof(struct process_v2)); }
ret nvmlDeviceGetGraphicsRunningProcesses(dev d, u32 *n, void *p) { return processes(__func__, d, "graphics", n, p, sizeof(struct process_v1)); }
