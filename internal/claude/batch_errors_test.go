package claude

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"

	"monitor/internal/llm"
)

func TestErroredItemsOfABatchAreToldApart(t *testing.T) {
	for kind, want := range map[string]llm.Kind{
		"rate_limit_error": llm.Overloaded, "overloaded_error": llm.Overloaded,
		"authentication_error": llm.Auth, "billing_error": llm.Auth, "permission_error": llm.Auth,
		"request_too_large": llm.TooLong, "api_error": llm.Internal, "invalid_request_error": llm.BadRequest,
	} {
		var x anthropic.MessageBatchIndividualResponse
		if err := json.Unmarshal([]byte(`{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"`+kind+`","message":"m"},"request_id":"r"}}}`), &x); err != nil {
			t.Fatal(err)
		}
		r, err := resultOf(x, func(s string) string { return s })
		var e *llm.Error
		if !errors.As(err, &e) || e.Kind != want || r.Money != Free {
			t.Errorf("%s: %v (%v), want kind %v and nothing charged", kind, err, r.Money, want)
		}
	}
}
