/* A C file. */
#include <stdio.h>
#include "local.h"
#define MACRO(x) { \
    if (x) {
#define SWAP(a, b) do { } while (0)
extern "C" {
typedef struct { int a; } Anonymous;
typedef struct node { struct node *next; } node_t;
struct point { int x, y; };
enum color { RED, GREEN = 2 };
union u { int i; float f; };
static const int table[] = { 1, 2, '}' };
int prototype(int a);
int (*pointer)(int) = NULL;

/* Adds. Two numbers. */
static inline int
add(int a, int b)
{
    return a && b || a ? a + b : 0;
}

int old_style(a, b)
    int a;
    char *b, *c;
{
    for (;;) { while (a) { switch (a) { case 1: case 2: break; default: ; } } }
}

#ifdef WIN
int conditional(int a) {
#else
int conditional(long a) {
#endif
#if 0
    {{{ don't
#elif defined(X)
    if (a) {
#else
    if (b) {
#endif
    }
    return '"' + '\'' + "}"[0];
}
struct point *returns_struct(struct point p, int (*cb)(void)) { return &p; }
__attribute__((noinline)) void attributed(void) __attribute__((unused));
__attribute__((noinline)) void attributed(void) { }
API_EXPORT(int) exported(int a) { return a; }
DEFINE_THING(foo)
int after_macro(void) { return 0; }
FOO(x) { }
unsigned long long new(int class) { return 1; }
int knr_none() { return 0; } int same_line(void) { return 1; }
}
