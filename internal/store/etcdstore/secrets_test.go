package etcdstore

import "testing"

// TestSecretRanges: a range that holds one secret key is known, whatever its ends.
func TestSecretRanges(t *testing.T) {
	s := secrets{"/c/state/beat", "/c/access/"}
	for _, c := range []struct{ from, end, want string }{
		{"/c/state/beat", "", "/c/state/beat"}, {"/c/state/bea", "", ""}, {"/c/state/beat/x", "", ""},
		{"/c/state/", "/c/state0", "/c/state/beat"}, {"/c/state/beat\x00", "/c/state0", ""},
		{"/c/access", "", ""}, {"/c/access/", "", "/c/access/"}, {"/c/access/users/a", "", "/c/access/"}, {"/c/access0", "", ""},
		{"/c/access/users/", "/c/access/users0", "/c/access/"}, {"/c/access/z", "/c/b", "/c/access/"}, {"/c/", "/c/b", "/c/access/"},
		{"/c/a", "/c/access", ""}, {"/c/a", "/c/access/", ""}, {"/c/a", "/c/access/\x00", "/c/access/"},
		{"/c/access0", "/c/b", ""}, {"/c/access/q", "\x00", "/c/access/"}, {"/c/access0", "\x00", ""},
	} {
		if got := s.among(c.from, c.end); got != c.want {
			t.Errorf("%q to %q: %q, want %q", c.from, c.end, got, c.want)
		}
	}
	for key, want := range map[string]bool{"/c/state/beat": true, "/c/state/beats": false, "/c/access/": true,
		"/c/access/users/a": true, "/c/access": false, "/c/accessible": false} {
		if got := s.has(key); got != want {
			t.Errorf("%q: %v", key, got)
		}
	}
}
