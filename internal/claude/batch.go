package claude

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"monitor/internal/llm"
)

const (
	// maxBatch and maxBatchBytes bound one batch, as their page has it.
	maxBatch      = 100_000
	maxBatchBytes = 256 << 20
)

// Batch is a set of questions that are answered within 24 hours, at half the price.
type Batch struct {
	ID string
	// Status is in_progress, canceling or ended; results can be had when it has ended.
	Status string
	// Counts of its questions; those other than Processing are zero until it ends.
	Processing, Succeeded, Errored, Canceled, Expired int64
	Created, Ends, Ended                              time.Time
	// Results are kept until Archived, if that is not zero.
	Archived time.Time
	// Money is set by Submit: not_sent or free when there is surely no batch, in_doubt when
	// there may be one, billed when there is: what it costs is known from its results.
	Money Money
}

// Done says that results can be had.
func (b Batch) Done() bool { return b.Status == "ended" }

var customID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Submit sends questions as one batch. All their Before are called, in order, before
// the first byte is sent, with At the same; when one fails nothing is sent. Of an
// error the Batch's Money says whether there may be a batch all the same: then look
// for it with Batches and by the custom_ids of its results, and submit none of it again
// before that.
func (l *Lane) Submit(ctx context.Context, asks []Ask) (Batch, error) {
	none := Batch{Money: NotSent}
	if len(asks) == 0 || len(asks) > maxBatch {
		return none, unwritable(fmt.Sprintf("a batch has 1 to %d questions, not %d", maxBatch, len(asks)), nil)
	}
	ids := map[string]bool{}
	var params anthropic.MessageBatchNewParams
	sendings := make([]Sending, len(asks))
	var bytes int64
	for i, a := range asks {
		if !customID.MatchString(a.ID) || ids[a.ID] {
			return none, unwritable(fmt.Sprintf("question %d of the batch has the ID %q: an ID is 1 to 64 letters, digits, - or _, and there only once", i+1, a.ID), nil)
		}
		ids[a.ID] = true
		m, err := l.card(ctx, a.Model)
		if err != nil {
			return none, err
		}
		if !m.Batches {
			return none, unwritable(a.Model+" is not served in batches", nil)
		}
		p, err := prepare(a, m)
		if err != nil {
			return none, err
		}
		if bytes += p.bytes + 128; bytes > maxBatchBytes {
			return none, &llm.Error{Kind: llm.TooLong, Message: fmt.Sprintf("the batch has more than %d MB at question %d; make several of it", maxBatchBytes>>20, i+1)}
		}
		sendings[i] = Sending{Model: a.Model, PromptAtMost: p.bytes + overhead, OutputAtMost: p.params.MaxTokens}
		params.Requests = append(params.Requests, anthropic.MessageBatchNewParamsRequest{CustomID: a.ID, Params: batchParams(p.params)})
	}
	c, err := l.plainCall(ctx)
	if err != nil {
		return none, err
	}
	defer c.close()
	c.timer.Stop()
	c.before = func(ctx context.Context) error {
		at := time.Now()
		for i, a := range asks {
			sendings[i].At = at
			if a.Before == nil {
				continue
			}
			if err := a.Before(ctx, sendings[i]); err != nil {
				return err
			}
		}
		c.arm(10*time.Minute, errFirstEvent) // 256 MB may have to go up
		return nil
	}
	b, err := l.client.Messages.Batches.New(c.ctx, params, c.options()...)
	if err != nil {
		money, e := c.failed(err)
		l.remember("", "", e)
		return Batch{Money: money}, e
	}
	if b == nil || b.ID == "" {
		return Batch{Money: InDoubt}, &llm.Error{Kind: llm.Garbage, Status: c.status, Message: "what answered is not Claude's API: the batch has no id"}
	}
	out := batchOf(b)
	out.Money = Billed
	return out, nil
}

func batchOf(b *anthropic.MessageBatch) Batch {
	n := b.RequestCounts
	return Batch{
		ID: b.ID, Status: string(b.ProcessingStatus),
		Processing: n.Processing, Succeeded: n.Succeeded, Errored: n.Errored, Canceled: n.Canceled, Expired: n.Expired,
		Created: b.CreatedAt, Ends: b.ExpiresAt, Ended: b.EndedAt, Archived: b.ArchivedAt,
	}
}

// Batch asks how far a batch is.
func (l *Lane) Batch(ctx context.Context, id string) (Batch, error) {
	c, err := l.freeCall(ctx)
	if err != nil {
		return Batch{}, err
	}
	defer c.close()
	b, err := l.client.Messages.Batches.Get(c.ctx, id, anthropic.MessageBatchGetParams{}, c.options()...)
	return l.batch(c, b, err)
}

// CancelBatch ends a batch early: what is not begun is not charged. It ends when what
// is on its way has ended; its results can be had then.
func (l *Lane) CancelBatch(ctx context.Context, id string) (Batch, error) {
	c, err := l.freeCall(ctx)
	if err != nil {
		return Batch{}, err
	}
	defer c.close()
	b, err := l.client.Messages.Batches.Cancel(c.ctx, id, anthropic.MessageBatchCancelParams{}, c.options()...)
	return l.batch(c, b, err)
}

// Batches returns the batches of the key's workspace that were created after since,
// newest first: to find one whose Submit is in doubt.
func (l *Lane) Batches(ctx context.Context, since time.Time) ([]Batch, error) {
	c, err := l.freeCall(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	pages := l.client.Messages.Batches.ListAutoPaging(c.ctx, anthropic.MessageBatchListParams{Limit: param.NewOpt[int64](100)}, c.options()...)
	var all []Batch
	for pages.Next() && len(all) < 10_000 {
		b := pages.Current()
		if b.CreatedAt.Before(since) {
			return all, nil
		}
		all = append(all, batchOf(&b))
	}
	if err := pages.Err(); err != nil {
		_, e := c.failed(err)
		return all, e
	}
	return all, nil
}

// freeCall is a plainCall that a spend cap does not stop: what was bought before can
// still be fetched.
func (l *Lane) freeCall(ctx context.Context) (*call, error) {
	c, err := l.newCall(ctx)
	if err != nil {
		return nil, err
	}
	c.arm(plainTimeout, errFirstEvent)
	return c, nil
}

func (l *Lane) batch(c *call, b *anthropic.MessageBatch, err error) (Batch, error) {
	if err != nil {
		_, e := c.failed(err)
		return Batch{}, e
	}
	if b == nil || b.ID == "" {
		return Batch{}, &llm.Error{Kind: llm.Garbage, Status: c.status, Message: "what answered is not Claude's API: the batch has no id"}
	}
	return batchOf(b), nil
}

// Results calls each with every result of a batch that has ended, in no order: the
// custom_id, the Result, and for what did not succeed the error beside it. An error of
// each ends it and is returned. What it gave may be given again by a later call.
func (l *Lane) Results(ctx context.Context, id string, each func(customID string, r Result, err error) error) error {
	c, err := l.freeCall(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	c.beat = plainTimeout
	lines := l.client.Messages.Batches.ResultsStreaming(c.ctx, id, anthropic.MessageBatchResultsParams{}, c.options()...)
	defer lines.Close()
	for lines.Next() {
		x := lines.Current()
		r, e := resultOf(x, c.clean)
		// The caller's time is not the server's silence.
		c.timer.Stop()
		if err := each(x.CustomID, r, e); err != nil {
			return err
		}
		c.timer.Reset(plainTimeout)
	}
	if err := lines.Err(); err != nil {
		_, e := c.failed(err)
		return e
	}
	return nil
}

// resultOf judges one line of a batch's results.
func resultOf(x anthropic.MessageBatchIndividualResponse, clean func(string) string) (Result, error) {
	r := Result{Money: Free, Batch: true}
	switch x.Result.Type {
	case "succeeded":
		m := x.Result.Message
		r.Model, r.MessageID, r.Money = string(m.Model), m.ID, Billed
		u := m.Usage
		setPrompt(&r.Usage, 0, u.InputTokens, u.CacheReadInputTokens, u.CacheCreationInputTokens, u.CacheCreation.Ephemeral5mInputTokens, u.CacheCreation.Ephemeral1hInputTokens)
		r.Usage.OutputTokens = int(tokens(u.OutputTokens))
		for _, b := range m.Content {
			if b.Type == "text" {
				r.Text += b.Text
			}
		}
		return r, judge(&r, string(m.StopReason), m.StopDetails, len(m.Content) > 0, clean)
	case "errored":
		e := x.Result.Error.Error
		r.RequestID = x.Result.Error.RequestID
		out := &llm.Error{Kind: llm.BadRequest, Status: statusOf(e.Type), Message: "Anthropic refuses this question of the batch: " + clean(e.Message)}
		lower, now := strings.ToLower(e.Message), time.Now()
		switch { // as for a stream (refusal): what passes is asked again, what the account lacks stops the lane
		case strings.Contains(lower, "specified api usage limits"), out.Status == 429 && strings.Contains(lower, "spend"):
			out.Kind, out.Until = llm.SpendCap, capEnds(e.Message, now)
			out.Message = capMessage(out.Until, clean(e.Message))
		case out.Status == 429 || out.Status == 529:
			out.Kind, out.Message = llm.Overloaded, "Claude was too busy for this question of the batch: "+clean(e.Message)
		case out.Status == 401 || out.Status == 402 || out.Status == 403:
			out.Kind, out.Message = llm.Auth, "Anthropic does not serve this account or key: "+clean(e.Message)
		case out.Status == 413:
			out.Kind, out.Message = llm.TooLong, "this question of the batch is too long for the model: "+clean(e.Message)
		case out.Status >= 500:
			out.Kind, out.Message = llm.Internal, "Anthropic failed at this question of the batch: "+clean(e.Message)
		}
		return r, out
	case "canceled":
		return r, &llm.Error{Kind: llm.Cut, Message: "the batch was cancelled before this question's turn"}
	case "expired":
		return r, &llm.Error{Kind: llm.Timeout, Message: "the batch expired before this question's turn: Anthropic had no capacity within 24 hours"}
	}
	r.Money = InDoubt
	return r, &llm.Error{Kind: llm.Garbage, Message: fmt.Sprintf("a result of the batch is of a kind that this version does not know: %q", x.Result.Type)}
}
