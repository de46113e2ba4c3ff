package report

import (
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// sarifLimits are what GitHub code scanning takes of one file: of more results
// it stores 5,000, a gzip above 10 MB it refuses, and a rule may have 20 tags
// ("SARIF support for code scanning", limits section).
type sarifLimits struct {
	results, gzip, tags int
}

// sarifSchema is the identity of the schema that the output follows.
const sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

// SARIF writes the findings as SARIF 2.1.0 for code-scanning tools. Paths are
// relative to %SRCROOT%; the same finding keeps its partial fingerprint;
// silenced findings are there with a suppression. What is above the limits of
// GitHub's code scanning is cut from the lowest rank up, and a notification in
// the file says so. Errors are those of w.
func SARIF(w io.Writer, r *Report) error {
	return writeSARIF(w, r, sarifLimits{results: 5000, gzip: 10 << 20, tags: 20})
}

func writeSARIF(w io.Writer, r *Report, lim sarifLimits) error {
	r = complete(r)
	all := ranked(r, true)
	// What a cut takes first stands last: the silenced, then the low ranks,
	// whoever found them.
	slices.SortStableFunc(all, func(a, b Finding) int {
		if d := b2i(a.Silenced) - b2i(b.Silenced); d != 0 {
			return d
		}
		return order(known(a.Rank)) - order(known(b.Rank))
	})
	n := min(len(all), lim.results)
	for {
		b, err := encode(sarifLog(r, all[:n], len(all), lim), " ")
		if err != nil {
			return fmt.Errorf("write the report as SARIF: %w", err)
		}
		if n == 0 || len(b) <= lim.gzip || gzipped(b) <= lim.gzip {
			_, err = w.Write(b)
			return err
		}
		n = n * 3 / 4
	}
}

func gzipped(b []byte) int {
	var c counter
	z := gzip.NewWriter(&c)
	_, _ = z.Write(b) // counter never fails
	_ = z.Close()
	return int(c)
}

type counter int

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

type object = map[string]any

func sarifLog(r *Report, findings []Finding, total int, lim sarifLimits) object {
	rules, index := sarifRules(findings, lim)
	results := make([]any, 0, len(findings))
	for _, f := range findings {
		results = append(results, sarifResult(r, f, index[f.Rule]))
	}
	name, version := toolOf(r)
	driver := object{"name": name, "rules": rules}
	if version != "" {
		driver["version"] = version
	}
	run := object{
		"tool":              object{"driver": driver},
		"automationDetails": object{"id": "monitor/analyze/"},
		"originalUriBaseIds": object{"%SRCROOT%": object{
			"description": object{"text": "The root of the repository that was analysed."}}},
		"columnKind":  "utf16CodeUnits",
		"results":     results,
		"invocations": []any{sarifInvocation(r, len(findings), total)},
		"properties":  sarifProperties(r),
	}
	return object{"$schema": sarifSchema, "version": "2.1.0", "runs": []any{run}}
}

// toolOf splits "monitor 0.1.0".
func toolOf(r *Report) (name, version string) {
	_, version, _ = strings.Cut(oneLine(r.Tool), " ")
	return "Monitor", version
}

func sarifInvocation(r *Report, shown, total int) object {
	inv := object{"executionSuccessful": true}
	if !r.Created.IsZero() {
		inv["endTimeUtc"] = r.Created.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	notes := []any{}
	say := func(level, text string) {
		notes = append(notes, object{"level": level, "message": object{"text": sarifText(text)}})
	}
	if shown < total {
		say("warning", fmt.Sprintf("%s of %s findings are in this file, those of the highest rank: code scanning stores no more. The Monitor's JSON lines have all of them.",
			count(shown), count(total)))
	}
	if trial(r) {
		text := r.Model.Name + " is only for trying things out: do not trust its findings."
		if r.Model.Better != "" {
			text += " For real answers: " + r.Model.Better + "."
		}
		say("warning", text)
	}
	for _, n := range r.Notes {
		say("note", n)
	}
	if len(r.Parked) > 0 {
		say("warning", plural(len(r.Parked), "unit", "units")+" of the tree got no usable answer from the model; the findings are without them.")
	}
	inv["toolExecutionNotifications"] = notes
	return inv
}

func sarifProperties(r *Report) object {
	p := object{"job": r.Job, "modelCalls": r.Counts.ModelCalls, "silenced": r.Counts.Silenced}
	if r.Head != "" {
		p["commit"] = r.Head
	}
	if r.Model != nil {
		p["model"] = object{"name": r.Model.Name, "sha256": r.Model.SHA256, "engine": r.Model.Engine, "trial": r.Model.Trial}
	}
	return p
}

// sarifRules describes the rules of the findings, in the order of their first.
func sarifRules(findings []Finding, lim sarifLimits) (rules []any, index map[string]int) {
	index = map[string]int{}
	rules = []any{}
	for _, f := range findings {
		if _, ok := index[f.Rule]; ok {
			continue
		}
		index[f.Rule] = len(rules)
		d := RuleFor(f.Rule)
		rules = append(rules, object{
			"id":                   f.Rule,
			"name":                 camel(d.Name),
			"shortDescription":     object{"text": d.Name},
			"fullDescription":      object{"text": d.Help},
			"help":                 object{"text": d.Help, "markdown": mdText(d.Help)},
			"defaultConfiguration": object{"level": level(f.Rank)},
			"properties":           object{"tags": d.Tags[:min(len(d.Tags), lim.tags)]},
		})
	}
	return rules, index
}

// camel makes "ImportCycle" of "Import cycle", the form SARIF asks of a rule's name.
func camel(s string) string {
	var b strings.Builder
	for _, w := range strings.Fields(s) {
		b.WriteString(capital(w))
	}
	return b.String()
}

func level(r Rank) string {
	switch known(r) {
	case High:
		return "error"
	case Medium:
		return "warning"
	}
	return "note"
}

func sarifResult(r *Report, f Finding, rule int) object {
	text := f.Title
	for _, s := range []string{f.Why, f.Check} {
		if strings.TrimSpace(s) != "" {
			text = strings.TrimRight(text, ". ") + ". " + s
		}
	}
	if strings.TrimSpace(text) == "" {
		text = RuleFor(f.Rule).Name
	}
	tags := []string{"machine"}
	props := object{}
	if f.Model != "" {
		text = "In the words of the model " + f.Model + ": " + text
		tags = []string{"model", "model:" + oneLine(f.Model)}
		props["model"] = f.Model
		if trial(r) {
			props["trial"] = true
		}
	}
	props["tags"] = tags
	res := object{
		"ruleId": f.Rule, "ruleIndex": rule, "level": level(f.Rank),
		// 0 to 100: the rank's third, the score's place within it.
		"rank":       map[Rank]float64{High: 67, Medium: 34, Low: 1}[known(f.Rank)] + 32*min(max(finite(f.Score), 0), 1),
		"message":    object{"text": sarifText(text)},
		"properties": props,
	}
	if f.Fingerprint != "" {
		res["partialFingerprints"] = object{"monitorFinding/v1": f.Fingerprint}
	}
	if f.Silenced {
		res["suppressions"] = []any{object{"kind": "external", "justification": "Known: it is in the baseline."}}
	}
	where := f.Path
	if where == "" && len(f.Related) > 0 {
		where = f.Related[0]
	}
	if where != "" {
		res["locations"] = []any{sarifLocation(where, f)}
	}
	var related []any
	seen := map[string]bool{where: true, "": true}
	for _, p := range f.Related {
		if !seen[p] && len(related) < 20 {
			seen[p] = true
			related = append(related, object{"physicalLocation": object{"artifactLocation": artifact(p)}})
		}
	}
	if related != nil {
		res["relatedLocations"] = related
	}
	return res
}

func sarifLocation(where string, f Finding) object {
	physical := object{"artifactLocation": artifact(where)}
	if f.Path != "" && f.Line > 0 {
		region := object{"startLine": f.Line, "endLine": max(f.Line, f.EndLine)}
		if f.Quote != "" {
			region["snippet"] = object{"text": f.Quote}
		}
		physical["region"] = region
	}
	loc := object{"physicalLocation": physical}
	if f.Symbol != "" {
		loc["logicalLocations"] = []any{object{"name": shorten(oneLine(f.Symbol), 200)}}
	}
	return loc
}

func artifact(p string) object {
	return object{"uri": relativeURI(p), "uriBaseId": "%SRCROOT%"}
}

// relativeURI is a path of the repository as a URI reference (RFC 3986, 4.2):
// everything but unreserved characters is escaped, so that no file name can
// be read as a scheme, a host, a query or a fragment, and none leads out.
func relativeURI(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return "."
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// sarifText takes from a message what SARIF would read as a link (3.11.6) or
// as a place for an argument (3.11.5).
func sarifText(s string) string {
	s = strings.ReplaceAll(oneLine(s), "](", "] (")
	return strings.ReplaceAll(s, "{", "{ ")
}
