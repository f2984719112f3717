package install

import (
	"context"
	"errors"
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

// agents answers for each host what its agent tells; "": it does not answer.
type agents struct {
	host   string
	status map[string]string
	did    *[]string
}

func (a agents) Ask(_ context.Context, q Request) (Answer, error) {
	if q.Args[0] == "stop" {
		*a.did = append(*a.did, a.host)
		return Answer{}, errors.New("no quorum")
	}
	return Answer{Output: a.status[a.host]}, nil
}

func (agents) Close() error { return nil }

// TestAnUninstallationGoesOn after it has ended some of the agents, or all of them.
func TestAnUninstallationGoesOn(t *testing.T) {
	const (
		off      = `{"connected":false,"owner":{"state":"released"},"want":{"run":false}}`
		never    = `{"connected":false,"owner":{"state":""},"want":{"run":false}}`
		on       = `{"connected":false,"owner":{"state":"running","host":"a"},"want":{"run":false}}`
		wanted   = `{"connected":false,"owner":{"state":"released"},"want":{"run":true}}`
		together = `{"connected":true,"owner":{"state":"released"},"want":{"run":false}}`
	)
	pairs := config.Cluster{Type: config.PairConf}
	for name, c := range map[string]struct {
		cfg    config.Cluster
		status map[string]string // of the hosts whose agents run
		domain string            // on the others
		blind  bool              // they do not know
		want   string            // error; "": it goes on
		asked  string            // who is asked to stop it
	}{
		"some have ended":         {config.Cluster{}, map[string]string{"a": off, "b": off}, "off", false, "", ""},
		"it was never started":    {pairs, map[string]string{"a": never}, "", true, "", ""},
		"one knows it as running": {config.Cluster{}, map[string]string{"a": off, "b": on}, "off", false, "no quorum", "a b"},
		"it shall run":            {config.Cluster{}, map[string]string{"a": wanted}, "off", false, "no quorum", "a"},
		"there is a quorum": {config.Cluster{}, map[string]string{"a": together, "b": together},
			"off", false, "no quorum", "a b"},
		"it runs where the agent has ended": {config.Cluster{}, map[string]string{"a": off}, "running", false,
			"the management VM is running there", ""},
		"all have ended":                        {config.Cluster{}, nil, "off", false, "", ""},
		"all have ended, and one does not know": {config.Cluster{}, nil, "", true, "does not say whether", ""},
		"all of a pair have ended":              {pairs, nil, "", true, "", ""},
	} {
		var did []string
		r := &run{Options: Options{Config: c.cfg, Tell: func(string, string) {}}, conns: map[string]Conn{}}
		for _, h := range []string{"a", "b", "c"} {
			_, active := c.status[h]
			s := sight{host: Host{Name: h}, facts: Facts{Installed: &Installed{Active: active}, Domain: c.domain}}
			if c.blind {
				s.facts.Unknown = map[string]string{"libvirt": "no socket"}
			}
			r.sights = append(r.sights, s)
			r.conns[h] = agents{h, c.status, &did}
		}
		err := r.stopGuest(t.Context())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || strings.Join(did, " ") != c.asked {
			t.Errorf("%s: %v, asked %q: want %q, %q", name, err, did, c.want, c.asked)
		}
	}
}

// TestWhoTakesAPairApartComesLast: what it would go on by is there until the others are done; and
// nothing is begun while another host has a set-up of its own.
func TestWhoTakesAPairApartComesLast(t *testing.T) {
	var mu sync.Mutex
	var all []string
	r := &run{Options: Options{Config: config.Cluster{Type: config.PairConf}, Last: "a", Parallel: 3,
		Tell: func(string, string) {}}, conns: map[string]Conn{}}
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
