package store

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

func TestDecisionsAreKeptUpToABound(t *testing.T) {
	everyStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		d := s.Decisions()
		if last, err := d.Last(ctx, 5); err != nil || len(last) != 0 {
			t.Fatalf("%q before there was one (%v)", last, err)
		}
		at := time.UnixMilli(1_795_000_000_000)
		var all []Decision
		for i := range 60 {
			all = append(all, Decision{At: at.Add(time.Duration(i) * time.Second), What: "granted", Request: fmt.Sprint("r", i/2), Model: fmt.Sprint("m", i%3),
				Body: json.RawMessage(fmt.Sprintf(`{"n":%d,"reason":"it's a \"slot\""}`, i))})
		}
		all[0].Request, all[0].Model = "a\x00b\xff'; DROP TABLE decisions; --", ""
		if err := d.add(ctx, all, KeptDecisions); err != nil {
			t.Fatal(err)
		}
		if got, err := d.OfRequest(ctx, all[0].Request); err != nil || len(got) != 1 || !got[0].At.Equal(at) {
			t.Errorf("%+v (%v)", got, err)
		}
		got, err := d.OfRequest(ctx, "r7")
		if err != nil || len(got) != 2 || string(got[0].Body) != string(all[14].Body) || got[1].Model != "m0" {
			t.Errorf("%+v (%v)", got, err)
		}
		got, err = d.OfModel(ctx, "m2", 3)
		if err != nil || len(got) != 3 || string(got[2].Body) != string(all[59].Body) || !got[0].At.Before(got[1].At) {
			t.Errorf("%+v (%v)", got, err)
		}
		if last, err := d.Last(ctx, 2); err != nil || fmt.Sprint(last) != "[r29 r28]" {
			t.Errorf("%q (%v)", last, err)
		}
		if err := d.Add(ctx, []Decision{all[1], {Body: json.RawMessage(`[]`)}}); err == nil {
			t.Error("a body that is no object was stored")
		}
		if err := d.add(ctx, all[59:], 10); err != nil {
			t.Fatal(err)
		}
		if last, err := d.Last(ctx, 100); err != nil || len(last) != 5 {
			t.Errorf("%q are kept, want those of the last 10 decisions (%v)", last, err)
		}
	})
}
