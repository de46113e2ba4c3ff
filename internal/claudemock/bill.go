package claudemock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"sync"
	"time"
)

// State is how a call ended, which decides what is billed; the table is in the
// package comment.
type State string

// The states. Open is a call that is being answered; a bill that is read after
// the mock was killed has Interrupted in its place.
const (
	Open        State = "open"
	Answered    State = "answered"
	Refused     State = "refused"      // after some output
	RefusedFree State = "refused_free" // before any
	Failed      State = "failed"       // an error event after some text
	FailedFree  State = "failed_free"  // before any
	Cut         State = "cut"          // by the script
	Left        State = "left"         // by the client
	Interrupted State = "interrupted"  // the mock was killed, or closed
)

// billed says whether a state costs anything.
func (s State) billed() bool { return s != Open && s != RefusedFree && s != FailedFree }

// Call is one line of the bill: a call that was answered with 200, or a request
// of a batch that succeeded.
type Call struct {
	ID        string    `json:"id"`         // of the message
	RequestID string    `json:"request_id"` // of the header; of the batch in a batch
	CustomID  string    `json:"custom_id,omitempty"`
	Model     string    `json:"model"`
	At        time.Time `json:"at"`
	Usage     Usage     `json:"usage"` // what is billed, zeros where nothing is
	Terms
	State State `json:"state"`
	// USD is the money, an exact decimal.
	USD string `json:"usd"`
}

// Money is the call's price, exact.
func (c Call) Money() *big.Rat {
	r, _ := decimal(c.USD)
	return r
}

// Bill is all that was charged and seen.
type Bill struct {
	// Calls in the order in which they began to be answered. Those of an earlier
	// mock on the same file come first.
	Calls []Call `json:"calls"`
	// USD is the sum, an exact decimal.
	USD string `json:"usd"`
	// Requests counts what was asked, by endpoint ("POST /v1/messages"), Statuses
	// how it was answered, RateLimited the 429s among them. These and the fields
	// below are of this Server only and are not kept in the file.
	Requests    map[string]int `json:"requests"`
	Statuses    map[int]int    `json:"statuses"`
	RateLimited int            `json:"rate_limited"`
	// Peak is the most calls of /v1/messages that were under way at once.
	Peak int `json:"peak"`
	// BytesIn is the size of all bodies received.
	BytesIn int64 `json:"bytes_in"`
	// Seen is how many requests held each text of Config.Watch.
	Seen map[string]int `json:"seen"`
}

// Total is the sum of the bill, exact.
func (b Bill) Total() *big.Rat {
	sum := new(big.Rat)
	for _, c := range b.Calls {
		sum.Add(sum, c.Money())
	}
	return sum
}

// books keeps the calls, and writes them down.
type books struct {
	mu    sync.Mutex
	calls []Call
	at    map[string]int // by message id
	total *big.Rat       // of what is billed

	lines chan line
	done  chan struct{} // the writer has ended
	file  *os.File
	once  sync.Once
	err   error // of closing
}

// line is what is to be written, and where to say that it was. A line that is
// written outlives the process; one that is synced, the machine's power, too.
type line struct {
	text []byte
	sync bool
	done chan error
}

// openBooks reads the bill that is at path, if any, and goes on with it. A last
// line without its end is of a write that a kill cut off; it is taken away.
func openBooks(path string) (*books, error) {
	b := &books{at: map[string]int{}, total: new(big.Rat)}
	if path == "" {
		return b, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the mock's bill could not be opened: %w; name a file in a directory that exists and may be written", err)
	}
	if err := b.read(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b.file, b.lines, b.done = f, make(chan line, 64), make(chan struct{})
	go b.write()
	return b, nil
}

func (b *books) read(f *os.File) error {
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("the mock's bill could not be read: %w", err)
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	if err := b.load(text[:end], f.Name()); err != nil {
		return err
	}
	if err := f.Truncate(int64(end)); err != nil {
		return fmt.Errorf("the torn end of the mock's bill could not be taken away: %w", err)
	}
	if _, err := f.Seek(int64(end), io.SeekStart); err != nil {
		return fmt.Errorf("the mock's bill could not be continued: %w", err)
	}
	return nil
}

// load takes the lines of a bill. What was open when they ended is Interrupted.
func (b *books) load(text []byte, name string) error {
	n := 0
	for l := range bytes.Lines(text) {
		n++
		var c Call
		if err := json.Unmarshal(l, &c); err != nil || c.ID == "" {
			return fmt.Errorf("line %d of the mock's bill %s is no call; it is some other file, or was edited: name another", n, name)
		}
		b.put(c)
	}
	for _, c := range b.calls {
		if c.State == Open {
			c.State = Interrupted
			b.put(c)
		}
	}
	return nil
}

// put takes a call into the sum, in the place of what was known of it before.
// What is open carries its price already, so that it need not be known again
// after a kill; it counts when it has ended, which it does once.
func (b *books) put(c Call) {
	i, known := b.at[c.ID]
	if !known {
		i = len(b.calls)
		b.at[c.ID] = i
		b.calls = append(b.calls, c)
	} else {
		b.calls[i] = c
	}
	if c.State.billed() {
		b.total.Add(b.total, c.Money())
	}
}

// write puts lines on the disk until there are no more, as many with one fsync
// as have come meanwhile.
func (b *books) write() {
	defer close(b.done)
	for first := range b.lines {
		batch := []line{first}
		for more := true; more; {
			select {
			case l, ok := <-b.lines:
				if more = ok; ok {
					batch = append(batch, l)
				}
			default:
				more = false
			}
		}
		var text []byte
		wanted := false
		for _, l := range batch {
			text = append(text, l.text...)
			wanted = wanted || l.sync
		}
		_, err := b.file.Write(text)
		if err == nil && wanted {
			err = b.file.Sync()
		}
		for _, l := range batch {
			l.done <- err
		}
	}
}

// open notes a call that begins to be answered, with the usage of its prompt, and
// returns when that is written.
func (b *books) open(c Call) error {
	c.State = Open
	return b.note(c, false)
}

// settle notes how a call ended, and returns when that is on the disk.
func (b *books) settle(c Call) error { return b.note(c, true) }

func (b *books) note(c Call, durable bool) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	l := line{text: append(text, '\n'), sync: durable, done: make(chan error, 1)}
	b.mu.Lock()
	if b.file != nil && b.lines == nil {
		b.mu.Unlock()
		return errors.New("the mock is closed")
	}
	b.put(c)
	if b.lines != nil {
		b.lines <- l // under the lock: lines keep the order of the calls, and closing waits
	}
	b.mu.Unlock()
	if b.file == nil {
		return nil
	}
	return <-l.done
}

// billed is the sum so far.
func (b *books) billed() *big.Rat {
	b.mu.Lock()
	defer b.mu.Unlock()
	return new(big.Rat).Set(b.total)
}

func (b *books) bill() Bill {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := slices.Clone(b.calls)
	for i := range calls {
		if calls[i].State == Open {
			calls[i].USD, calls[i].Usage = "0", Usage{}
		}
	}
	return Bill{Calls: calls, USD: exact(b.total)}
}

func (b *books) close() error {
	b.once.Do(func() {
		b.mu.Lock()
		lines := b.lines
		b.lines = nil
		b.mu.Unlock()
		if lines == nil {
			return
		}
		close(lines)
		<-b.done
		b.err = errors.Join(b.file.Sync(), b.file.Close())
	})
	return b.err
}

// ReadBill reads a bill file that no Server holds any more. Calls that were open
// when the mock died are Interrupted, and billed for their prompt.
func ReadBill(path string) (Bill, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Bill{}, fmt.Errorf("the mock's bill could not be read: %w", err)
	}
	b := &books{at: map[string]int{}, total: new(big.Rat)}
	end := bytes.LastIndexByte(text, '\n') + 1
	if err := b.load(text[:end], path); err != nil {
		return Bill{}, err
	}
	return b.bill(), nil
}
