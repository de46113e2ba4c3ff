package claudemock

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// refusal is an answer that is an error: the envelope of the API.
type refusal struct {
	status     int
	kind       string
	message    string
	code       string        // error.details.error_code
	retryAfter time.Duration // 0: no header
}

func refuse(status int, kind, format string, args ...any) *refusal {
	return &refusal{status: status, kind: kind, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *refusal {
	return refuse(http.StatusBadRequest, "invalid_request_error", format, args...)
}

func rateLimited(wait time.Duration, format string, args ...any) *refusal {
	r := refuse(http.StatusTooManyRequests, "rate_limit_error", format, args...)
	r.retryAfter = max(wait, time.Millisecond)
	return r
}

func overloaded() *refusal { return refuse(529, "overloaded_error", "Overloaded") }

// spendLimit is the refusal of a cap that is reached.
func spendLimit(selfSet bool, now time.Time) *refusal {
	y, m, _ := now.UTC().Date()
	next := time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
	if selfSet {
		return invalid("You have reached your specified API usage limits. You will regain access on %s at 00:00 UTC.", next.Format(time.DateOnly))
	}
	r := refuse(http.StatusTooManyRequests, "rate_limit_error", "Your organization has reached its monthly spend limit. Access resumes on %s at 00:00 UTC.", next.Format(time.DateOnly))
	r.code = "enforced_spend_limit_reached"
	return r
}

// envelope is the refusal as it stands in a body, an event or a batch's result.
func (r *refusal) envelope(requestID string) map[string]any {
	e := map[string]any{"type": r.kind, "message": r.message}
	if r.code != "" {
		e["details"] = map[string]any{"error_code": r.code}
	}
	return map[string]any{"type": "error", "error": e, "request_id": requestID}
}

func (r *refusal) write(w http.ResponseWriter, requestID string) {
	w.Header().Set("content-type", "application/json")
	if r.retryAfter > 0 {
		w.Header().Set("retry-after", strconv.Itoa(int(math.Ceil(r.retryAfter.Seconds()))))
	}
	if r.status == 529 || r.status >= 500 || r.status == http.StatusTooManyRequests && r.retryAfter > 0 {
		w.Header().Set("x-should-retry", "true")
	} else {
		w.Header().Set("x-should-retry", "false")
	}
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(r.envelope(requestID)) // whoever left does not read it
}
