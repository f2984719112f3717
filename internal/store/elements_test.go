package store

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestAValueOfManyElementsIsRefused(t *testing.T) {
	list := func(element string, n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	for name, c := range map[string]struct {
		value string
		ok    bool
	}{
		"what an array may have":      {`{"vms":` + list("{}", maxArray) + `}`, true},
		"one more":                    {`{"vms":` + list("{}", maxArray+1) + `}`, false},
		"null":                        {`{"vms":` + list("null", maxArray+1) + `}`, false},
		"with spaces":                 {`{"vms":` + list(" { } ", maxArray+1) + `}`, false},
		"of another kind":             {`{"vms":` + list("0", maxArray+1) + `}`, false},
		"in several arrays":           {`{"a":` + list("{}", 8000) + `,"b":` + list("{}", 8000) + `,"c":` + list("{}", 8000) + `}`, false},
		"many short arrays":           {list("[1]", maxElements/2+1), false},
		"the same key again":          {`{` + strings.TrimSuffix(strings.Repeat(`"a":`+list("{}", 100)+`,`, 300), ",") + `}`, false},
		"members of an object":        {`{` + strings.TrimSuffix(strings.Repeat(`"a":0,`, 30000), ",") + `}`, true},
		"commas in a text":            {`["` + strings.Repeat(`,[{\",`, 30000) + `"]`, true},
		"a text that ends in a slash": {`["\\",` + list("0", maxArray+1) + `]`, false},
		"deep":                        {strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), true},
		"deeper":                      {strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), false},
		"objects, deeper":             {strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1), false},
		"not JSON":                    {"]]}},,\"", true},
		"nothing":                     {"", true},
	} {
		if err := (Attempt{Value: []byte(c.value)}).Light(); errors.Is(err, ErrTooLarge) == c.ok {
			t.Errorf("%s: %v, want ok %t", name, err, c.ok)
		}
	}
}

// FuzzElements: a value that is JSON has no more elements, when it is decoded, than were counted.
func FuzzElements(f *testing.F) {
	for _, s := range []string{`[1,[2,3],{"a":[4]}]`, `"\"[,"`, `{"a":"b\\","c":[]}`, "[\n1 , 2 ]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		var v any
		if _, all, ok := elements(s); ok && json.Unmarshal(s, &v) == nil && decoded(v) > all {
			t.Errorf("%q has %d elements, counted %d", s, decoded(v), all)
		}
	})
}

// decoded counts the elements of all arrays.
func decoded(v any) (n int) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			n += 1 + decoded(x)
		}
	case map[string]any:
		for _, x := range v {
			n += decoded(x)
		}
	}
	return n
}
