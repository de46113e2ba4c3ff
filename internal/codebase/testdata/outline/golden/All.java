package com.example.app;

import java.util.*;
import static java.util.stream.Collectors.toList;

/** A class. With more. */
@Annotation(value = "}", list = {1, 2})
public final class All<T extends Comparable<T> & Runnable> extends Base<T> implements A, B<C> {
    private static final int[] TABLE = {1, 2, 3};
    static { System.out.println("{"); }
    { int x = 1; }
    private final Runnable r = () -> { if (true) { } };
    final Comparator<String> anonymous = new Comparator<String>() {
        @Override
        public int compare(String a, String b) {
            return a.length() > b.length() ? 1 : -1;
        }
    };

    /**
     * Makes one. Really.
     * @param a nothing
     */
    @Deprecated
    public All(int a) throws Exception { super(a); }

    public <K, V> Map<K, List<V>> generic(
            @Nullable final Map<? super K, ? extends V[]> map,
            int... rest)
            throws IOException {
        for (K k : map.keySet()) {
            switch (k) {
                case "a" -> { }
                case "b": break;
                default: return null;
            }
        }
        class Local { void inLocal() {} }
        record Point(int x, int y) { Point { assert x > 0; } int sum() { return x + y; } }
        return rest.length == 0 && map != null || false ? new HashMap<>() {{ put(null, null); }} : null;
    }

    abstract void nothing();
    native int alsoNothing();
    char quote() { return '"'; }
    String text() {
        return """
            { "not": "code" }
            \""" }
            """;
    }

    interface Inner { default void m() { } int n(); static void s() { } }
    @interface Marker { int[] value() default {}; String name() default ""; }
    enum Kind implements Supplier<String> {
        A { public String get() { return "a"; } },
        B(1) { public String get() { return "b"; } },
        C;
        private int i;
        Kind() { }
        Kind(int i) { this.i = i; }
        public String get() { return ""; }
    }
    public record Range(int lo, int hi) implements A {
        public Range {
            if (lo > hi) throw new IllegalArgumentException();
        }
        static Range of(int a) { return new Range(a, a); }
    }
    sealed interface S permits X {}
}

class Other { int record; void record() { record = 1; } }
