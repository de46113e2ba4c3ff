package main

import (
	"context"
	"fmt"
	"strings"

	"monitor/internal/llm"
)

// The prompts of a measurement: like those of an analysis they begin alike and go
// on with code that differs. They are made up here, so that they are the same on
// every machine.

// benchSystem is how all of them begin; a slot has read it before the clock runs.
const benchSystem = "You review code for a team that ships on Fridays. Say in plain sentences what the code does, step by step, which cases it forgets, and what you would change first. Do not repeat the code."

// benchQuestion begins with a number that no two requests of a run share, so
// that nothing after it is in a slot's cache.
func benchQuestion(serial int, code string) string {
	return fmt.Sprintf("Review number %06d.\n\n```go\n%s```\n\nExplain it in detail, from the first line to the last.", serial, code)
}

// benchCode makes the i-th piece of code, of about so many bytes, whole lines.
func benchCode(i, size int) string {
	nouns := []string{"order", "ticket", "sensor", "invoice", "parcel", "account", "reading", "session", "branch", "meter", "recipe"}
	verbs := []string{"collect", "merge", "rank", "drop", "balance", "settle", "group", "replay"}
	fields := []string{"Weight", "Age", "Price", "Depth", "Score", "Level", "Count"}
	var b strings.Builder
	for n := 0; b.Len() < size; n++ {
		k := i*31 + n*7
		noun, verb, field := nouns[k%len(nouns)], verbs[(k/3)%len(verbs)], fields[(k/2)%len(fields)]
		lines := []string{
			fmt.Sprintf("func %s%ss%d(list []%s, limit int) (kept []%s, total int) {", verb, noun, k%97, noun, noun),
			fmt.Sprintf("\tfor i, %c := range list {", noun[0]),
			fmt.Sprintf("\t\tif %c.%s*%d > limit+i {", noun[0], field, 2+k%9),
			fmt.Sprintf("\t\t\ttotal += %c.%s - %d", noun[0], field, k%13),
			"\t\t\tcontinue",
			"\t\t}",
			fmt.Sprintf("\t\tkept = append(kept, %c)", noun[0]),
			"\t}",
			fmt.Sprintf("\treturn kept[:len(kept)-%d], total", k%3),
			"}",
		}
		for _, l := range lines {
			if b.Len() >= size {
				break
			}
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

// benchPrompts are n prompts of about so many tokens, by the engine's own count.
type benchPrompts struct {
	code   []string
	answer int
}

func newBenchPrompts(ctx context.Context, n, tokens, answer int, count func(context.Context, string) (int, error)) (benchPrompts, error) {
	frame, err := count(ctx, benchSystem+benchQuestion(0, ""))
	if err != nil {
		return benchPrompts{}, err
	}
	const sample = 2000
	per, err := count(ctx, benchCode(0, sample))
	if err != nil {
		return benchPrompts{}, err
	}
	size := max(1, (tokens-frame)*sample/max(1, per))
	b := benchPrompts{answer: answer}
	for i := range n {
		b.code = append(b.code, benchCode(i, size))
	}
	return b, nil
}

// request is the i-th prompt with a number of its own.
func (b benchPrompts) request(serial, i int) llm.Request {
	return llm.Request{
		Messages:  []llm.Message{{Role: llm.System, Text: benchSystem}, {Role: llm.User, Text: benchQuestion(serial, b.code[i%len(b.code)])}},
		MaxTokens: b.answer,
	}
}
