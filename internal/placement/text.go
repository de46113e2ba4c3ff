package placement

import "fmt"

// mib is a number of bytes for people: whole MiB, rounded up, with thousands set apart.
func mib(n int64) string {
	const one = 1 << 20
	v := (n + one - 1) / one
	s := fmt.Sprint(v)
	if v >= 1000 {
		s = fmt.Sprintf("%s,%s", s[:len(s)-3], s[len(s)-3:])
	}
	return s + " MiB"
}
