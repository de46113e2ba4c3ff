package runner

// State is where an engine is in its life:
//
//	stopped → starting → warming → ready → draining → stopping → stopped
//
// or failed, from any of them but stopped.
type State string

// The states of an engine.
const (
	Stopped  State = "stopped"
	Starting State = "starting" // the process runs and loads the model
	Warming  State = "warming"  // it answers; the largest prompt is tried
	Ready    State = "ready"
	Draining State = "draining" // no new calls; those in flight may end
	Stopping State = "stopping" // it was asked to end
	Failed   State = "failed"   // it was given up; the reason says why
)
