// Package console is the way into a running `monitor serve`: an API over HTTP on a
// Unix socket, and its Go client. Both are here so that they share their types.
//
//	socket.go   where the socket is, and how one that a dead process left is told
//	            from one that is in use
//	server.go   the API
//	client.go   the same as Go calls
//
// # The API, version 1
//
//	GET  /v1/health                         Process
//	GET  /v1/status                         Status
//	POST /v1/models/{name}/{verb}           verb: load unload pin unpin restart; answers
//	                                        when it is done, {}
//	POST /v1/reload                         reads the config anew; Reloaded
//	POST /v1/settle                         {}, when all decisions so far are stored
//	POST /v1/ask                            Question; a stream of Piece
//	POST /v1/jobs                           Order; Started
//	GET  /v1/jobs/{id}/events               a stream of Progress until the job's run ends
//	POST /v1/jobs/{id}/stop                 {}: no new unit, what is in flight may end
//
// A body is JSON, a stream is JSON lines. An error is an Error, as the answer or as
// the last line of a stream. Whoever closes the connection ends what was asked, but
// for jobs: those go on.
//
// # Who may call
//
// Whoever may open the socket: its owner, mode 0600. There is no other check, and
// nothing listens on the network. A browser cannot reach it.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"monitor/internal/crew"
	"monitor/internal/job"
	"monitor/internal/llm"
)

// Crew is what the API shows and steers.
type Crew interface {
	Status(context.Context) (crew.Status, error)
	// Ask returns the answer as it comes and the request's ID; ending the context frees
	// the slot.
	Ask(context.Context, Question) (*llm.Stream, string, error)
	// Command carries out an order about a model and returns when that is done.
	Command(ctx context.Context, v Verb, model string) error
	// Reload reads the configuration anew and puts it in force.
	Reload(context.Context) (Reloaded, error)
	// Settle returns when all that was decided so far is stored.
	Settle(context.Context) error
}

// Jobs runs jobs in the serving process.
type Jobs interface {
	// Start begins an order, or goes on with a job. The job outlives the context.
	Start(context.Context, Order) (Started, error)
	// Follow tells what happens in a run, from its beginning as far as that is kept,
	// until the run ends or ctx does.
	Follow(ctx context.Context, id string, tell func(job.Event) error) (job.Job, error)
	// Stop ends a run gently; the job can be resumed.
	Stop(ctx context.Context, id string) error
	// Lanes are those beside the crew that the jobs may ask; none is a good answer.
	Lanes() []Lane
}

// Lane is a place beside the crew where a job's questions may be answered.
type Lane struct {
	Name string `json:"name"`
	// Workers at most at once; Busy are at work, Waiting is how many questions wait.
	Workers int `json:"workers"`
	Busy    int `json:"busy"`
	Waiting int `json:"waiting"`
	// Stopped says why it answers nobody now; "" while it does.
	Stopped string `json:"stopped,omitempty"`
	// Models of it that were asked, with what their limits leave.
	Models []LaneModel `json:"models,omitempty"`
}

// LaneModel is a model of a lane: how many calls were sent, how many of them came too
// soon, and what is left of the limits of a minute, -1 where that is not known.
type LaneModel struct {
	Name     string `json:"name"`
	Sent     int64  `json:"sent"`
	Limited  int64  `json:"limited"`
	Requests int64  `json:"requests_left"`
	Input    int64  `json:"input_tokens_left"`
	Output   int64  `json:"output_tokens_left"`
}

// Verb is an order about a model.
type Verb string

// The orders about a model.
const (
	Load    Verb = "load"
	Unload  Verb = "unload"
	Pin     Verb = "pin"
	Unpin   Verb = "unpin"
	Restart Verb = "restart"
)

// Process is the serving process.
type Process struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	// Uptime in seconds; RSS its own memory without its engines, in bytes, 0 where
	// the system does not tell.
	Uptime float64 `json:"uptime_seconds"`
	RSS    int64   `json:"rss_bytes"`
}

// Status is the crew and the process that keeps it.
type Status struct {
	crew.Status
	Process Process `json:"process"`
	Lanes   []Lane  `json:"lanes,omitempty"`
}

// Question is asked of a model by somebody who waits.
type Question struct {
	// Model by name; empty is the first of the crew. Flow is who asks.
	Model       string        `json:"model,omitempty"`
	Flow        string        `json:"flow,omitempty"`
	Messages    []llm.Message `json:"messages"`
	MaxTokens   int           `json:"max_tokens,omitempty"`
	Temperature float64       `json:"temperature,omitempty"`
}

// check says what of a question no engine could make sense of.
func (q Question) check() error {
	switch {
	case len(q.Messages) == 0:
		return errors.New("a question has at least one message")
	case q.MaxTokens < 0:
		return fmt.Errorf("max_tokens is %d; it is at least 1, or 0 for as many as fit", q.MaxTokens)
	case q.Temperature < 0 || q.Temperature > 2:
		return fmt.Errorf("temperature is %g; it is from 0 to 2", q.Temperature)
	}
	for i, m := range q.Messages {
		switch m.Role {
		case llm.System, llm.User, llm.Assistant:
		default:
			return fmt.Errorf("message %d is of the role %.40q; the roles are %s, %s and %s", i+1, m.Role, llm.System, llm.User, llm.Assistant)
		}
	}
	return nil
}

// Piece is a line of the answer to a Question: first the request's ID, then text, at
// last Done, or Error.
type Piece struct {
	Request string  `json:"request,omitempty"`
	Text    string  `json:"text,omitempty"`
	Done    *Asked  `json:"done,omitempty"`
	Failed  *Failed `json:"failed,omitempty"`
}

// Asked is how an answer ended.
type Asked struct {
	Request string    `json:"request"`
	Stop    llm.Stop  `json:"stop"`
	Usage   llm.Usage `json:"usage"`
}

// Order is a job to be started: a new one of Kind and Spec, or the one that Resume
// names.
type Order struct {
	Kind   string          `json:"kind,omitempty"`
	Spec   json.RawMessage `json:"spec,omitempty"`
	Resume string          `json:"resume,omitempty"`
	// Workers is how many units at the same time; 0: as many as the model has.
	Workers int `json:"workers,omitempty"`
}

// Started is a job that runs. Note is what was found out about the order, for
// people.
type Started struct {
	ID   string `json:"id"`
	Note string `json:"note,omitempty"`
}

// Progress is a line about a job: an event, at last Ended, or Failed.
type Progress struct {
	Event  *job.Event `json:"event,omitempty"`
	Ended  *job.Job   `json:"ended,omitempty"`
	Failed *Failed    `json:"failed,omitempty"`
}

// Reloaded is what came of reading the configuration anew.
type Reloaded struct {
	Profile string   `json:"profile,omitempty"`
	Models  []string `json:"models"`
}

// Failed is an error on its way to a client, where it is an error again with the
// same text.
type Failed struct {
	// Text is what happened, Advice what to do, further lines where there are any.
	Text   string `json:"error"`
	Advice string `json:"advice,omitempty"`
	// Kind is the server's word for the sort of error, for exit codes.
	Kind string `json:"kind"`
}

// Error implements error.
func (f *Failed) Error() string {
	if f.Advice == "" {
		return f.Text
	}
	return f.Text + "\n" + f.Advice
}

func failedOf(err error, kind string) *Failed {
	text, advice, _ := strings.Cut(err.Error(), "\n")
	return &Failed{Text: text, Advice: advice, Kind: kind}
}
