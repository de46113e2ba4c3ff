package rows

import (
	"errors"
	"strings"
	"testing"
)

type thing struct {
	Name  string   `yaml:"name"`
	Count int      `yaml:"count"`
	Words []string `yaml:"words"`
}

type document struct {
	Version int     `yaml:"version"`
	Things  []thing `yaml:"things"`
}

// Each mistake is told with its line and field; what is in order has none.
func TestMistakesHavePlaces(t *testing.T) {
	const fine = "version: 1\nthings:\n  - name: a\n    words: [x, y]\n"
	for _, c := range []struct{ name, src, want string }{
		{"fine", fine, ""},
		{"an unknown field", fine + "    colour: red\n", "f.yaml:5: "},
		{"a wrong type", fine + "    count: many\n", "f.yaml:5: count: a whole number belongs here"},
		{"no YAML", "version: [\n", "f.yaml:1: "},
		{"an anchor", "version: 1\nthings:\n  - &a {name: a}\n", "f.yaml:3: anchors"},
		{"an alias", "version: 1\nthings:\n  - name: a\n  - *a\n", "f.yaml:"},
		{"an ampersand in a text", "version: 1\nthings:\n  - name: a & b * c\n", ""},
		{"a tag that the library falls over", "version: 1\nthings: !!seq\n", "f.yaml: "},
		{"too long", fine + strings.Repeat("# \n", 400), "f.yaml: the file has"},
	} {
		f, doc := New([]byte(c.src), "f.yaml"), document{}
		some, err := f.Decode(&doc, 1000)
		var m *Mistake
		switch {
		case c.want == "":
			if err != nil || !some || len(doc.Things) != 1 {
				t.Errorf("%s: %v %+v", c.name, err, doc)
			}
		case !errors.As(err, &m) || !strings.HasPrefix(err.Error(), c.want) || some:
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	for _, empty := range []string{"", "\n", "# only words\n"} {
		if some, err := New([]byte(empty), "f.yaml").Decode(&document{}, 1000); some || err != nil {
			t.Errorf("%q: %v, %v", empty, some, err)
		}
	}
	f := New([]byte(fine), "f.yaml")
	for _, c := range []struct{ field, want string }{
		{"things[0].words[1]", "f.yaml:4: things[0].words[1]: is wrong"},
		{"things[0].count", "f.yaml:3: things[0].count: is wrong"}, // not there: the row's line
		{"nothing.at.all", "f.yaml: nothing.at.all: is wrong"},
	} {
		f.Add(c.field, "is wrong")
		if got := f.Err().Error(); !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: %s, want %s", c.field, got, c.want)
		}
	}
}

// Whatever a file holds, it is read or it is a *Mistake.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"version: 1\nthings:\n  - {name: a, count: 2}\n", "things: !!seq\n", "a: &a [*a]\n", "<<: 1", "? [", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var doc document
		file := New(src, "f.yaml")
		_, err := file.Decode(&doc, 1<<16)
		if m := new(Mistake); err != nil && !errors.As(err, &m) {
			t.Errorf("%T is no *Mistake", err)
		}
		file.Add("things[0].name", "is wrong")
	})
}
