package verify

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestStandings: a table is through with the last of its chunks, and not where one has failed.
func TestStandings(t *testing.T) {
	var last Progress
	a, b := &table{at: Standing{Table: "a"}}, &table{at: Standing{Table: "b"}}
	v := &verifier{tables: []*table{a, b}, all: 3, last: "a", opt: Options{Progress: func(p Progress) { last = p }}}
	is := func(what string, want ...Standing) {
		t.Helper()
		if !slices.Equal(last.Tables, want) {
			t.Errorf("%s: %+v, want %+v", what, last.Tables, want)
		}
		v.told = time.Time{} // the next telling is not held back
	}
	all := v.begin(a)
	is("it begins", Standing{Table: "a", Running: true}, Standing{Table: "b"})
	chunk := v.begin(a)
	v.told = time.Time{}
	if err := all(nil); err != nil {
		t.Error(err)
	}
	is("a chunk is left", Standing{Table: "a", Running: true}, Standing{Table: "b"})
	if err := chunk(nil); err != nil {
		t.Error(err)
	}
	is("all are through", Standing{Table: "a", Done: true}, Standing{Table: "b"})
	found := v.begin(a)
	is("its rows are looked for", Standing{Table: "a", Running: true, Done: true}, Standing{Table: "b"})
	if err := found(nil); err != nil {
		t.Error(err)
	}
	is("they are found", Standing{Table: "a", Done: true}, Standing{Table: "b"})
	fails := v.begin(b)
	is("the other one begins", Standing{Table: "a", Done: true}, Standing{Table: "b", Running: true})
	if err, want := fails(errRead), errRead; !errors.Is(err, want) {
		t.Error(err)
	}
	v.looked(false)
	is("it has failed", Standing{Table: "a", Done: true}, Standing{Table: "b", Running: true})
	v.looked(true)
	if last.Checks != 3 || last.Looked != 2 || last.Broken != 1 {
		t.Errorf("%+v", last)
	}
	v.looked(true)
	if last.Looked != 2 {
		t.Error("told again at once")
	}
}

var errRead = errors.New("source: it is gone")
