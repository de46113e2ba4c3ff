package report

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
)

// assets are the page's parts. The style and the script go into the page word
// for word: their hashes stand in its content security policy.
//
//go:embed assets/report.html assets/report.css assets/report.js
var assets embed.FS

// HTML writes the report as one self-contained page: no remote resource, works
// from file://, and complete without JavaScript, which only filters, sorts and
// shows tooltips. Text of the repository and of a model is escaped by its
// context, and the page's own policy lets no script or style run but ours.
// Errors are those of w.
func HTML(w io.Writer, r *Report) error {
	css, err := assets.ReadFile("assets/report.css")
	if err != nil {
		return fmt.Errorf("write the report as HTML: %w", err)
	}
	js, err := assets.ReadFile("assets/report.js")
	if err != nil {
		return fmt.Errorf("write the report as HTML: %w", err)
	}
	page, err := assets.ReadFile("assets/report.html")
	if err != nil {
		return fmt.Errorf("write the report as HTML: %w", err)
	}
	t, err := template.New("report").Funcs(template.FuncMap{
		"px": px, "n": count[int], "text": visible, "line": oneLine, "add": func(a, b float64) float64 { return a + b },
		"mid": func(a, b float64) float64 { return (a + b) / 2 }, "lang": languageName,
		"short": func(s string) string { return string([]rune(oneLine(s))[:min(12, len([]rune(oneLine(s))))]) },
	}).Parse(string(page))
	if err != nil {
		return fmt.Errorf("write the report as HTML: %w", err)
	}
	v := newView(complete(r))
	v.CSS, v.JS = template.CSS(css), template.JS(js)
	v.Policy = fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; base-uri 'none'; form-action 'none'",
		policyHash(css), policyHash(js))
	var buf bytes.Buffer
	if err := t.Execute(&buf, v); err != nil {
		return fmt.Errorf("write the report as HTML: %w", err)
	}
	_, err = buf.WriteTo(w)
	return err
}

// policyHash is a source expression of CSP level 2, 4.2.3.
func policyHash(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256-" + base64.StdEncoding.EncodeToString(h[:])
}
