package claudemock

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
)

// bindingBeta lets a request say what becomes of thinking blocks whose prefix
// was changed.
const bindingBeta = "thinking-binding-controls-2026-08-01"

// signature is what a thinking block is bound to: the model that thought, the
// conversation before, and the text that was shown.
type signature struct {
	model  string
	prefix [16]byte
	text   [16]byte
}

func digest(text []byte) [16]byte {
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

func seal(body []byte) []byte {
	mac := hmac.New(sha256.New, []byte("monitor claude mock")) // no secret: it only tells ours from made up ones
	_, _ = mac.Write(body)                                     // a hash takes everything
	return mac.Sum(nil)[:16]
}

func (s signature) String() string {
	body := slices.Concat(s.prefix[:], s.text[:], []byte(s.model))
	return base64.StdEncoding.EncodeToString(append(body, seal(body)...))
}

func readSignature(text string) (signature, bool) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) < 49 {
		return signature{}, false
	}
	body, mac := raw[:len(raw)-16], raw[len(raw)-16:]
	if !bytes.Equal(mac, seal(body)) {
		return signature{}, false
	}
	return signature{model: string(body[32:]), prefix: [16]byte(body[:16]), text: [16]byte(body[16:32])}, true
}

// reads says whether a model can read thinking of another: Opus 5.5 that of older
// Opus, Sonnet and Haiku; Fable 5.1 and later that of Opus 5.5.
func reads(m *model, of string) bool {
	o, known := findModel(of)
	if !known {
		return false
	}
	switch m.id {
	case "claude-opus-5-5":
		return o.line != "fable" && o.created < m.created
	case "claude-fable-5-1", "claude-fable-5-2":
		return o.id == "claude-opus-5-5"
	}
	return false
}

// binding is the digest of a conversation so far. Thinking is no part of it, so
// that removing a block does not unbind the ones after it.
func binding(p *prompt) [16]byte {
	h := sha256.New()
	for _, b := range p.blocks {
		if b.thinks {
			continue
		}
		_, _ = h.Write(b.canon) // a hash takes everything
		_, _ = h.Write([]byte{0})
	}
	return [16]byte(h.Sum(nil)[:16])
}
