package claude

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"monitor/internal/llm"
)

// Model is one of Anthropic's models, as their Models API describes it.
type Model struct {
	// ID is what Ask.Model is; Name is for people; Line is haiku, sonnet, opus, fable, …
	ID, Name, Line string
	// Window is the largest prompt and MaxOutput the largest max_tokens, in tokens; 0
	// where it is not known.
	Window, MaxOutput int64
	// Efforts are the efforts that may be asked for, least first; none where it takes none.
	Efforts []string
	// Adaptive says that it may be told to think as it sees fit; Always that its thinking
	// cannot be turned off.
	Adaptive, Always bool
	// Structured says that it holds to a schema; Batches that it may be asked in batches.
	Structured, Batches bool
	// Lifecycle is active, deprecated or retired; RetiresAt when it will be, or zero.
	Lifecycle string
	RetiresAt time.Time
	// Guessed says that the Models API did not answer: what is sent is what every model
	// takes.
	Guessed bool
}

// How long what the Models API said is believed, and how long its silence is.
const (
	cardFor  = time.Hour
	guessFor = time.Minute
)

type card struct {
	Model
	until time.Time
}

// cards are the models as they were told, guarded by a channel and no mutex, since who waits for another's request
// must be able to give up.
type cards struct {
	turn chan struct{}
	ids  map[string]card
	all  []Model
	till time.Time
}

func newCards() *cards { return &cards{turn: make(chan struct{}, 1), ids: map[string]card{}} }

func (c *cards) enter(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

func (c *cards) leave() { <-c.turn }

// Models returns what the key may use, newest first, without what is retired. It is
// kept for an hour.
func (l *Lane) Models(ctx context.Context) ([]Model, error) {
	if err := l.cards.enter(ctx); err != nil {
		return nil, err
	}
	defer l.cards.leave()
	if time.Now().Before(l.cards.till) {
		return slices.Clone(l.cards.all), nil
	}
	c, err := l.plainCall(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	pages := l.client.Models.ListAutoPaging(c.ctx, anthropic.ModelListParams{Limit: param.NewOpt[int64](1000)}, c.options()...)
	var all []Model
	for pages.Next() && len(all) < 10_000 {
		m := modelOf(pages.Current())
		all = append(all, m)
		l.cards.ids[m.ID] = card{m, time.Now().Add(cardFor)}
	}
	if err := pages.Err(); err != nil {
		_, e := c.failed(err)
		return nil, e
	}
	l.cards.all, l.cards.till = all, time.Now().Add(cardFor)
	return slices.Clone(all), nil
}

// card is what is known about one model; it asks once an hour. An error is one with
// which no call could succeed: everything else is answered with a guess.
func (l *Lane) card(ctx context.Context, id string) (Model, error) {
	if err := l.cards.enter(ctx); err != nil {
		return Model{}, err
	}
	defer l.cards.leave()
	if m, ok := l.cards.ids[id]; ok && time.Now().Before(m.until) {
		return m.Model, nil
	}
	c, err := l.plainCall(ctx)
	if err != nil {
		return Model{}, err
	}
	defer c.close()
	info, err := l.client.Models.Get(c.ctx, id, anthropic.ModelGetParams{}, c.options()...)
	if err == nil && info != nil && info.ID != "" {
		m := modelOf(*info)
		l.cards.ids[id] = card{m, time.Now().Add(cardFor)}
		return m, nil
	}
	if err != nil {
		_, e := c.failed(err)
		if ctx.Err() != nil {
			return Model{}, e
		}
		if c.theirs && c.status == 404 {
			return Model{}, &llm.Error{Kind: llm.BadRequest, Status: 404, Message: fmt.Sprintf("Anthropic has no model %q for this key; `monitor claude status` lists those that it has", id)}
		}
		if k := llm.KindOf(e); k == llm.Auth || k == llm.SpendCap {
			return Model{}, e
		}
	}
	m := guess(id)
	l.cards.ids[id] = card{m, time.Now().Add(guessFor)}
	return m, nil
}

// guess describes a model of which nothing was told.
func guess(id string) Model {
	return Model{ID: id, Name: id, MaxOutput: 64_000, Structured: true, Batches: true, Guessed: true}
}

func modelOf(i anthropic.ModelInfo) Model {
	c := i.Capabilities
	m := Model{
		ID: i.ID, Name: i.DisplayName, Line: string(i.Line), Window: i.MaxInputTokens, MaxOutput: i.MaxTokens,
		Structured: c.StructuredOutputs.Supported, Batches: c.Batch.Supported,
		Lifecycle: string(i.Lifecycle), RetiresAt: i.RetiresAt,
	}
	if !i.JSON.Capabilities.Valid() {
		m.Structured, m.Batches, m.Guessed = true, true, true
		return m
	}
	if c.Thinking.Supported {
		m.Adaptive = c.Thinking.Types.Adaptive.Supported
		// Sonnet 5.5 calls "off" between_tools.
		m.Always = m.Adaptive && !c.Thinking.Types.Disabled.Supported && !c.Thinking.Types.BetweenTools.Supported
	}
	if e := c.Effort; e.Supported {
		for i, ok := range []bool{e.Low.Supported, e.Medium.Supported, e.High.Supported, e.Xhigh.Supported, e.Max.Supported} {
			if ok {
				m.Efforts = append(m.Efforts, efforts()[i])
			}
		}
	}
	return m
}

// efforts are all there are, least first.
func efforts() []string { return []string{"low", "medium", "high", "xhigh", "max"} }

// family is what a model's id says; the Models API does not say all of it otherwise.
type family struct {
	line         string
	major, minor int
}

var familyID = regexp.MustCompile(`^claude-([a-z]+)-(\d{1,2})(?:-(\d{1,2}))?(?:-\d{8})?$`)

func familyOf(id string) (family, bool) {
	m := familyID.FindStringSubmatch(id)
	if m == nil {
		return family{}, false
	}
	major, _ := strconv.Atoi(m[2])
	minor, _ := strconv.Atoi(m[3])
	return family{m[1], major, minor}, true
}

// samples says whether a model takes temperature: Opus 4.7, all of 5 and whatever is
// not known refuse it.
func samples(id string) bool {
	f, ok := familyOf(id)
	return ok && (f.major < 4 || f.major == 4 && f.minor < 7)
}

// cacheable is the shortest prefix, in tokens, that a model's cache keeps. The Models API
// does not tell. Where Anthropic publishes none, 1,024 is what most have.
func cacheable(id string) int64 {
	f, _ := familyOf(id)
	switch {
	case f.line == "haiku" && f.major == 4:
		return 4096
	case f.major >= 5 && (f.line == "opus" || f.line == "sonnet"):
		return 512
	}
	return 1024 // Opus 4.5 to 4.8 have 1,024 to 4,096: below it the mark does nothing, and costs nothing
}

var errNoKey = errors.New("there is no key for Claude; `monitor claude login` stores one")
