package claude

// Allowance is what a call's max_tokens has beyond the answer's, in tokens, for a model
// that thinks: for who reckons a worst case before there is a call.
func Allowance(effort string) int64 { return thinkingAllowance(effort) }
