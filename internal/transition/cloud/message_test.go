package cloud

import "testing"

func TestMessage(t *testing.T) {
	for body, want := range map[string]string{
		`{"NeutronError": {"type": "InUse", "message": "port p1 is in use", "detail": ""}}`: "port p1 is in use",
		"<html>\n502\n": "<html>\n502",
		" \n":           "no reason is told",
	} {
		if got := Message([]byte(body)); got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
}
