package claude

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"monitor/internal/llm"
)

// envelope is an error in Anthropic's own words.
type envelope struct {
	Type  string `json:"type"`
	Error struct {
		Type    string          `json:"type"`
		Message string          `json:"message"`
		Details json.RawMessage `json:"details"`
	} `json:"error"`
	RequestID string `json:"request_id"`
}

func readEnvelope(raw []byte) (envelope, bool) {
	var e envelope
	err := json.Unmarshal(raw, &e)
	return e, err == nil && e.Error.Type != ""
}

func (e envelope) code() string {
	var d struct {
		Code string `json:"error_code"`
	}
	_ = json.Unmarshal(e.Error.Details, &d)
	return d.Code
}

// statusOf is the HTTP status that an error's type has where it comes inside a 200.
func statusOf(kind string) int {
	switch kind {
	case "invalid_request_error":
		return 400
	case "authentication_error":
		return 401
	case "billing_error":
		return 402
	case "permission_error":
		return 403
	case "not_found_error":
		return 404
	case "request_too_large":
		return 413
	case "rate_limit_error":
		return 429
	case "timeout_error":
		return 504
	case "overloaded_error":
		return 529
	}
	return 500
}

// refusal explains an error status, or an error event as if it were one, and says what
// it cost. It keeps a spend cap in mind.
func (c *call) refusal(status int, raw []byte) (*llm.Error, Money) {
	env, ok := readEnvelope(raw)
	c.theirs = ok
	said := strings.Join(strings.Fields(c.clean(env.Error.Message)), " ")
	if !ok {
		said = "the answer is not in Anthropic's words; is something in between?"
	}
	if len(said) > 600 {
		said = strings.ToValidUTF8(said[:600], "") + "…"
	}
	e := &llm.Error{Status: status, Message: said, RetryAfter: retryAfter(c.header, time.Now())}
	money := Free
	lower := strings.ToLower(said)
	switch {
	case status == 429 && (env.code() == "enforced_spend_limit_reached"),
		status == 400 && ok && strings.Contains(lower, "specified api usage limits"):
		now := time.Now()
		e.Kind, e.RetryAfter, e.Until = llm.SpendCap, 0, capEnds(said, now)
		e.Message = capMessage(e.Until, said)
		c.lane.halt(e.Until, e.Message)
	case status == 429:
		e.Kind, e.Message = llm.Overloaded, "Anthropic's rate limit for this key is reached: "+said
	case status == 529:
		e.Kind, e.Message = llm.Overloaded, "Claude is overloaded, which is not this key's fault: "+said
	case status == 401 || status == 403:
		e.Kind, e.Message = llm.Auth, "Anthropic does not accept the key for this; `monitor claude login` stores another: "+said
	case status == 402:
		e.Kind, e.Message = llm.Auth, "Anthropic does not serve this account until its billing is in order, see its console: "+said
	case status == 413, status == 400 && ok && (strings.Contains(lower, "prompt is too long") || strings.Contains(lower, "exceed context limit")):
		e.Kind, e.Message = llm.TooLong, "the request is too long for the model: "+said
	case status == 408 || status == 504:
		e.Kind, e.Message, money = llm.Timeout, "Anthropic gave up on the request: "+said, InDoubt
	case status == 409 || status == 503:
		e.Kind, e.Message = llm.Overloaded, "Claude cannot take the request now: "+said
	case status == 499:
		e.Kind, e.Message, money = llm.Cut, "something on the way closed the request: "+said, InDoubt
	case status == 502:
		e.Kind, e.Message = llm.Unavailable, "what is before Claude's API does not reach it: "+said
	case status >= 500:
		e.Kind, e.Message = llm.Internal, "Anthropic failed: "+said
	default:
		e.Kind, e.Message = llm.BadRequest, "Anthropic refuses the request: "+said
	}
	if status >= 500 && (!ok || status != 500 && status != 529) {
		money = InDoubt
	}
	return e, money
}

// retryAfter reads the header: seconds or a date; 0 without one.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 && s < 1e7 {
		return time.Duration(s * float64(time.Second))
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

var regain = regexp.MustCompile(`(?i)regain access on (\d{4}-\d{2}-\d{2})(?: at (\d{2}:\d{2}))?`)

// capEnds is when a spend cap ends: when the message says, else with the month (UTC).
func capEnds(said string, now time.Time) time.Time {
	if m := regain.FindStringSubmatch(said); m != nil {
		at := m[2]
		if at == "" {
			at = "00:00"
		}
		if t, err := time.Parse("2006-01-02 15:04", m[1]+" "+at); err == nil && t.After(now) && t.Before(now.AddDate(0, 3, 0)) {
			return t
		}
	}
	now = now.UTC()
	return time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

func capMessage(until time.Time, said string) string {
	return fmt.Sprintf("the spend cap of this Anthropic account is reached, so nothing more is sent until %s; raise it in Anthropic's console and restart, or go on with local models: %s", until.UTC().Format("2006-01-02 15:04 UTC"), said)
}
