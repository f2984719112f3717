package install

import (
	"context"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/pair/precheck"
)

// asked notes what is asked of a host.
type asked struct {
	host  string
	begun string // a set-up that it tells of
	mu    *sync.Mutex
	all   *[]string
}

func (a asked) Ask(_ context.Context, q Request) (Answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*a.all = append(*a.all, a.host+" "+q.Do)
	return Answer{Pair: &precheck.Facts{Begun: a.begun}}, nil
}

func (asked) Close() error { return nil }

// TestWhoTakesAPairApartComesLast: what it would go on by is there until the others are done; and
// nothing is begun while another host has a set-up of its own.
func TestWhoTakesAPairApartComesLast(t *testing.T) {
	var mu sync.Mutex
	var all []string
	r := &run{Options: Options{Config: config.Cluster{Type: config.PairConf}, Last: "a", Parallel: 3, Tell: func(string, string) {}}, conns: map[string]Conn{}}
	for _, h := range []string{"a", "b", "c"} {
		r.targets = append(r.targets, Host{Name: h})
		r.conns[h] = asked{h, "", &mu, &all}
	}
	if err := r.setupElsewhere(t.Context()); err != nil || len(all) != 2 || strings.Contains(strings.Join(all, " "), "a ") {
		t.Errorf("asked %q, %v: want b and c to be asked", all, err)
	}
	all = nil
	if err := r.remove(t.Context(), &Removed{}); err != nil || len(all) != 3 || all[2] != "a "+DoRemove {
		t.Errorf("asked %q, %v: want a to be the last one", all, err)
	}
	r.conns["c"] = asked{"c", "a recovery is at work", &mu, &all}
	if err := r.setupElsewhere(t.Context()); err == nil || !strings.Contains(err.Error(), "c: a recovery is at work; nothing was changed") {
		t.Errorf("%v: want a refusal", err)
	}
}
