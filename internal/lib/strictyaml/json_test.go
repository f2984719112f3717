package strictyaml

import "testing"

// TestFromJSON: keys keep their order, and texts stay texts.
func TestFromJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"b": 1, "a": [], "c": {}, "d": [{"x": null, "y": true}, "yes"], "e": 0.01, "f": "a\nb\n"}`: "b: 1\na: []\nc: {}\nd:\n" +
			"- x: null\n  \"y\": true\n- \"yes\"\ne: 0.01\nf: |\n  a\n  b\n",
		`"\u003c12:30"`: "<12:30\n",
		`12345678901`:   "12345678901\n",
		`"12345678901"`: "\"12345678901\"\n",
	} {
		if got, err := FromJSON([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", text, err, got, want)
		}
	}
	for _, bad := range []string{"", "{", `{"a"}`, "[1,", "x", `{"a": 1`} {
		if got, err := FromJSON([]byte(bad)); err == nil {
			t.Errorf("%s: %s", bad, got)
		}
	}
}
