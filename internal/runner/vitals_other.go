//go:build !linux

package runner

const vitalsKnown = false

// vitalsOf knows nothing here.
func vitalsOf(int) vitals { return vitals{} }
