package main

import (
	"time"

	"monitor/internal/cost"
	"monitor/internal/router"
)

// habit is what a model's answers to a kind of task were like lately.
type habit struct {
	took time.Duration // 0: not known
	// prompt is how many tokens a prompt had for each that was foreseen, output how many
	// an answer had; both are means, and nothing before there are enough answers.
	prompt, output float64
	answers        int
}

// habitual is from how many answers on a model's lengths are taken for its habit.
const habitual = 4

// used notes what an answer was like; a batch's time says nothing.
func (l *lanes) used(o router.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := [2]string{o.Arm.Model, o.Kind}
	h := l.habits[at]
	if !o.Arm.Batch {
		if h.took > 0 {
			h.took = (3*h.took + o.Took) / 4
		} else {
			h.took = o.Took
		}
	}
	if t := o.Tokens; o.Prompt > 0 && t.Output > 0 {
		h.answers++
		share := max(1/float64(h.answers), 0.05) // the last twenty count
		h.prompt += share * (float64(t.Prompt())/float64(o.Prompt) - h.prompt)
		h.output += share * (float64(t.Output) - h.output)
	}
	l.habits[at] = h
}

// tokens are what a task will probably take of the model.
func (h habit) tokens(f router.Facts) cost.Tokens {
	if h.answers < habitual {
		return cost.Tokens{Fresh: int64(f.Prompt), Output: int64(f.Output)}
	}
	return cost.Tokens{Fresh: int64(h.prompt * float64(f.Prompt)), Output: int64(h.output + 0.5)}
}
