package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"monitor/internal/console"
	"monitor/internal/crew"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
)

// askCommand is `monitor ask`: one question, one answer as it is written.
type askCommand struct{ *Program }

type askFlags struct {
	model string
	most  int
	json  bool
}

// maxQuestion bounds a question from standard input, in bytes.
const maxQuestion = 1 << 20

func (p askCommand) command() *cobra.Command {
	var f askFlags
	c := &cobra.Command{
		Use: "ask TEXT|-", Short: "Ask a model one question",
		Long: "Asks a model and prints the answer as it is written. While `monitor serve` runs its crew answers, before\n" +
			"its jobs' questions; else the engine is started for this one. - reads the question from standard input.",
		Example: "  monitor ask 'What is a mutex?'\n  git diff | monitor ask --max-tokens 200 -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.ask(c.Context(), strings.Join(args, " "), f)
		},
	}
	c.Flags().StringVar(&f.model, "model", "", "model to ask (`NAME`)")
	c.Flags().IntVar(&f.most, "max-tokens", 1024, "most `TOKENS` of the answer")
	c.Flags().BoolVar(&f.json, "json", false, "print the answer as JSON, when it is whole")
	return c
}

func (p askCommand) ask(ctx context.Context, text string, f askFlags) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	if f.most < 1 || f.most > 1<<20 {
		return usage("--max-tokens %d: give 1 to %d", f.most, 1<<20)
	}
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(p.Stdin, maxQuestion+1))
		switch {
		case err != nil:
			return fmt.Errorf("the question cannot be read: %w", err)
		case len(b) > maxQuestion:
			return usage("the question is longer than %d bytes", maxQuestion)
		}
		text = string(b)
	}
	if text = strings.TrimSpace(text); text == "" || !utf8.ValidString(text) {
		return usage("the question is empty, or no text")
	}
	// Half an answer is kept by nobody.
	ctx, _, release := untilSignal(ctx, p.Program)
	defer release()
	q := console.Question{Model: f.model, Messages: []llm.Message{{Role: llm.User, Text: text}}, MaxTokens: f.most}
	there, err := serving(ctx, p.Program)
	if err != nil {
		return err
	}
	out := &answerPrinter{p: p.Program, quiet: f.json}
	var asked console.Asked
	if there != nil {
		asked, err = there.Ask(ctx, q, func(id string) { out.request = id }, out.piece)
		err = fromServe(err)
	} else {
		asked, err = p.alone(ctx, q, out)
	}
	return out.end(asked, err)
}

// alone answers with an engine that is started for it.
func (p askCommand) alone(ctx context.Context, q console.Question, out *answerPrinter) (console.Asked, error) {
	var none console.Asked
	if err := p.openStore(ctx, false); err != nil {
		return none, err
	}
	spec, err := p.chooseModel(ctx, q.Model, 1)
	if err != nil {
		return none, err
	}
	if spec.Name == "" {
		return none, usage("there is no model to ask, since the model is none; give --model NAME (monitor models list)")
	}
	e, err := p.findEngine(ctx)
	if err != nil {
		return none, err
	}
	plan, err := planCommand(p).crewPlan(ctx, e, []pipeline.ModelSpec{spec})
	if err != nil {
		return none, err
	}
	cfg, closeMore := p.crewConfig(e, plan)
	c, err := crew.New(cfg)
	if err != nil {
		return none, errors.Join(err, closeMore())
	}
	q.Model = spec.Name
	asked, err := converse(ctx, c, q, out)
	return asked, errors.Join(err, c.Close(), closeMore())
}

func converse(ctx context.Context, c *crew.Crew, q console.Question, out *answerPrinter) (console.Asked, error) {
	s, id, err := c.Chat(ctx, interactive(q))
	if err != nil {
		return console.Asked{}, err
	}
	a, err := llm.Collect(s, out.piece)
	return console.Asked{Request: id, Stop: a.Stop, Usage: a.Usage}, err
}

// answerPrinter prints an answer as it comes, or keeps it for the end.
type answerPrinter struct {
	p       *Program
	quiet   bool
	request string
	text    strings.Builder
}

func (a *answerPrinter) piece(s string) {
	a.text.WriteString(s)
	if !a.quiet {
		a.p.printf("%s", safeText(s))
	}
}

// safeText keeps a terminal safe from what a model writes, but for its lines.
func safeText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		for _, c := range printable(string(r)) {
			return c
		}
		return -1
	}, s)
}

func (a *answerPrinter) end(asked console.Asked, err error) error {
	if !a.quiet && a.text.Len() > 0 {
		a.p.printf("\n")
	}
	if err != nil {
		return err
	}
	u := asked.Usage
	if a.quiet {
		return a.p.json(map[string]any{
			"version": 1, "request": asked.Request, "answer": a.text.String(), "stop": asked.Stop,
			"tokens": tokenJSON{u.PromptTokens, u.CachedTokens, u.OutputTokens}, "first_token_seconds": u.FirstToken.Seconds(), "seconds": u.Duration.Seconds(),
		})
	}
	line := fmt.Sprintf("%s, %d tokens", asked.Request, u.OutputTokens)
	if s := (u.Duration - u.FirstToken).Seconds(); s > 0 && u.OutputTokens > 1 {
		line += fmt.Sprintf(", %.1f a second", float64(u.OutputTokens-1)/s)
	}
	if asked.Stop == llm.StopLength {
		line += "; cut at --max-tokens or at the end of the window"
	}
	if a.request != "" { // decisions are stored by serve
		line += "; why it went as it went: monitor explain " + a.request
	}
	fmt.Fprintln(a.p.Stderr, line)
	return nil
}
