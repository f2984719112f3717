package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/pki"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/testbed/try"
)

// authority is the CA of a test's cluster, and where its files are.
type authority struct {
	t   *testing.T
	dir string
	ca  pki.CA
}

func newAuthority(t *testing.T, dir string) authority {
	t.Helper()
	ca, err := pki.NewCA("test", time.Hour)
	if err == nil {
		err = ca.WriteCert(filepath.Join(dir, "ca.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, dir, ca}
}

// issue gives a host its certificate, once.
func (a authority) issue(host string) config.TLS {
	a.t.Helper()
	files := config.TLS{CA: filepath.Join(a.dir, "ca.pem"), Cert: filepath.Join(a.dir, host+".pem"), Key: filepath.Join(a.dir, host+".key")}
	if _, err := os.Stat(files.Cert); err == nil {
		return files
	}
	pair, err := a.ca.Issue(host, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
	if err == nil {
		err = pair.Write(files.Cert, files.Key)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return files
}

// open connects to a member with the certificate of a host.
func (a authority) open(at, host string) store.Store {
	a.t.Helper()
	f := a.issue(host)
	_, conf, err := pki.Load(f.CA, f.Cert, f.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	st, err := etcdstore.Open(etcdstore.Options{Endpoints: []string{at}, TLS: conf, Prefix: "/holdfast/test/",
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { st.Close() })
	return st
}

// TestACertificateMustBearTheHostsName, where the members go by it: else they would
// refuse it later.
func TestACertificateMustBearTheHostsName(t *testing.T) {
	dir := try.ShortDir(t)
	a := newAuthority(t, t.TempDir())
	const client, peer = "https://127.0.0.1:1", "https://127.0.0.1:2"
	edit := func(cert string) func(*config.Node) {
		return func(n *config.Node) {
			n.TLS = a.issue(cert)
			n.Store.Endpoints = []string{client}
			n.Store.Member = &config.Member{ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client,
				Initial: map[string]string{"h1": peer}}
		}
	}
	if _, err := load(options(settings(t, dir, edit("h1")))); err != nil {
		t.Error(err)
	}
	_, err := load(options(settings(t, dir, edit("somebody"))))
	for _, want := range []string{"agent.json", "tls.cert", "somebody.pem", `"somebody"`, `"h1"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to name %s", err, want)
		}
	}
}

// realMember runs the member of host h1 as the agent's settings have it, and returns
// its address.
func realMember(t *testing.T, a authority) string {
	t.Helper()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "https://" + l.Addr().String()
	}
	client, peer := free(), free()
	file := settings(t, try.ShortDir(t), func(n *config.Node) {
		n.TLS, n.Store.Endpoints = a.issue("h1"), []string{client}
		n.Store.Member = &config.Member{ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client,
			Initial: map[string]string{"h1": peer}}
	})
	m, err := MemberConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	m.LogFile = filepath.Join(a.dir, "member.log")
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- etcdstore.RunMember(ctx, m) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			log, _ := os.ReadFile(m.LogFile)
			t.Errorf("the member: %v: %s", err, log)
		}
	})
	return client
}

// TestAStolenCertificateOfAGuestHost, on a real member: it does not reach the records
// by which the management VM is kept on one host, nor other hosts' records.
func TestAStolenCertificateOfAGuestHost(t *testing.T) {
	a := newAuthority(t, t.TempDir())
	at := realMember(t, a)
	member, thief := a.open(at, "h1"), a.open(at, "g1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const r = cluster.MgmtVM
	there := map[string]any{
		records.OwnerKey(r): ha.OwnerRec{}, records.KeyCoord: ha.CoordRec{}, records.HostKey("h1"): ha.HostRec{},
		records.WantKey(r): cluster.Want{Run: true}, records.KeyConfig: config.Cluster{}, records.KeyGeneration: 2,
		records.KeyBeat:        []byte("secret"),
		records.ProgressKey(r): 1, records.KeyLog + "00000000000000000001-h1-1": cluster.Event{}, "fleet/g2": nil,
		"job/run/upgrade": nil, "job/step/u1/h1/a": nil, "upgrade/state": nil, "upgrade/platform/b": nil, "care/probe": nil,
	}
	revs := map[string]int64{}
	for key, v := range there {
		rev, ok, err := member.Txn(ctx, nil, []store.Op{{Key: key, Value: records.Encode(v)}})
		if !ok || err != nil {
			t.Fatalf("a member writes %s: %t, %v", key, ok, err)
		}
		revs[key] = rev
	}
	for key, rev := range revs {
		value := records.Encode(cluster.Want{Run: false})
		for what, op := range map[string]store.Op{"change": {Key: key, Value: value}, "delete": {Key: key}} {
			for _, conds := range [][]store.Cmp{nil, {{Key: key, Rev: rev}}} {
				if _, ok, err := thief.Txn(ctx, conds, []store.Op{op}); ok || !errors.Is(err, store.ErrDefinite) ||
					!strings.Contains(err.Error(), "g1 runs no member") {
					t.Errorf("%s %s, conditions %v: %t, %v", what, key, conds, ok, err)
				}
			}
		}
		if kv, _, err := member.Get(ctx, key); kv.ModRev != rev || err != nil {
			t.Errorf("%s was changed, or %v", key, err)
		}
	}
	kvs, _, err := thief.List(ctx, records.KeyState)
	if err != nil || len(kvs) != 7 {
		t.Errorf("it reads %d records, %v", len(kvs), err)
	}
	for _, kv := range kvs {
		if kv.Key == records.KeyBeat {
			t.Error("it reads the secret of the heartbeats")
		}
	}
	event := cluster.Event{Kind: cluster.EvWant, By: "g1", Resource: r, Detail: "g1 in maintenance"}
	for key, value := range map[string][]byte{"fleet/g1": []byte(`{"host":{"name":"g1"}}`),
		records.KeyRequests + "x": []byte("2026-01-02T03:04:05Z"), records.KeyLog + "00000000000000000001-g1-1": records.Encode(event)} {
		if _, ok, err := thief.Txn(ctx, nil, []store.Op{{Key: key, Value: value}}); !ok || err != nil {
			t.Errorf("its own %s: %t, %v", key, ok, err)
		}
	}
	rest := cluster.Want{Run: true, Maintenance: []cluster.HostID{"g1"}}
	conds := []store.Cmp{{Key: records.WantKey(r), Rev: revs[records.WantKey(r)]}}
	asks := []store.Op{{Key: records.WantKey(r), Value: records.Encode(rest)}}
	if _, ok, err := thief.Txn(ctx, conds, asks); ok || !errors.Is(err, store.ErrDefinite) {
		t.Errorf("its own maintenance without a word in the log: %t, %v", ok, err)
	}
	asks = append(asks, store.Op{Key: records.KeyLog + "00000000000000000002-g1-2", Value: records.Encode(event)})
	if _, ok, err := thief.Txn(ctx, conds, asks); !ok || err != nil {
		t.Errorf("its own maintenance: %t, %v", ok, err)
	}
}

// TestAFloodOfWords, on a real member: with a guest host's certificate nothing is said of guests while
// no job empties the host, and not without end while one does.
func TestAFloodOfWords(t *testing.T) {
	a := newAuthority(t, t.TempDir())
	at := realMember(t, a)
	member, thief := a.open(at, "h1"), a.open(at, "g1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	words := func(first, n int) (ops []store.Op) {
		for i := range n {
			guest := fmt.Sprint("u", first+i)
			ops = append(ops, store.Op{Key: "fleet-carry/g2/" + guest, Value: fmt.Appendf(nil, `{"from":"g1","uuid":%q}`, guest)})
		}
		return ops
	}
	if _, _, err := thief.Txn(ctx, nil, words(0, 1)); !errors.Is(err, store.ErrDefinite) ||
		!strings.Contains(err.Error(), "no job empties host g1") {
		t.Errorf("without a job: %v", err)
	}
	for _, key := range []string{"job/todo/g1/", "job/step/d1/g1/drain", "fleet/g2"} {
		kvs, _, _ := emptied(key)
		if _, _, err := member.Txn(ctx, nil, []store.Op{{Key: kvs[0].Key, Value: kvs[0].Value}}); err != nil {
			t.Fatal(err)
		}
	}
	const most, each = 512, 64 // of a host, of a transaction
	for i := range most / each {
		if _, _, err := thief.Txn(ctx, nil, words(i*each, each)); err != nil {
			t.Fatal(err)
		}
	}
	try.Until(t, "the refusal of one more", func() bool {
		soon, end := context.WithTimeout(ctx, 2*time.Second) // the client tries again; where that ends in an attempt, its end is not known
		defer end()
		_, _, err := thief.Txn(soon, nil, words(most, 1))
		if err == nil || !strings.Contains(err.Error(), "at most 512 are allowed at a time") {
			t.Fatalf("one more: %v", err)
		}
		return errors.Is(err, store.ErrRetry)
	})
	kvs, _, err := member.List(ctx, "fleet-carry/")
	if err != nil || len(kvs) != most {
		t.Errorf("%d words, %v", len(kvs), err)
	}
	// Of one that is there it still says what has become of it.
	if _, _, err := thief.Txn(ctx, nil, words(0, 1)); err != nil {
		t.Errorf("a word that is there: %v", err)
	}
}

// TestValuesOfAGuestHost: what it may write under a key of its own has the form that its agent
// writes, and a size.
func TestValuesOfAGuestHost(t *testing.T) {
	const log = records.KeyLog + "00000000000000000001-g1-1"
	said := cluster.Event{Kind: cluster.EvWant, By: "g1", Resource: cluster.MgmtVM, Detail: "g1 in maintenance"}
	event := func(change func(*cluster.Event)) []byte {
		e := said
		change(&e)
		return records.Encode(e)
	}
	big := func(n int, form string) []byte { return fmt.Appendf(nil, form, strings.Repeat("x", n)) }
	for name, c := range map[string]struct {
		key   string
		value []byte
		want  bool
	}{
		"an event":                    {log, event(func(*cluster.Event) {}), true},
		"out of maintenance":          {log, event(func(e *cluster.Event) { e.Detail = "g1 out of maintenance" }), true},
		"by a job":                    {log, event(func(e *cluster.Event) { e.User = "job" }), true},
		"by root":                     {log, event(func(e *cluster.Event) { e.User = "root" }), false},
		"by another":                  {log, event(func(e *cluster.Event) { e.By = "h1" }), false},
		"of another":                  {log, event(func(e *cluster.Event) { e.Detail = "g2 in maintenance" }), false},
		"another is off":              {log, event(func(e *cluster.Event) { e.Detail = "confirmed that h2 is off" }), false},
		"a takeover":                  {log, event(func(e *cluster.Event) { e.Kind = cluster.EvTakeover }), false},
		"an unknown kind":             {log, event(func(e *cluster.Event) { e.Kind = "x" }), false},
		"with an epoch":               {log, event(func(e *cluster.Event) { e.Epoch.Seq = 1 }), false},
		"with a proof":                {log, event(func(e *cluster.Event) { e.Proof = "fenced" }), false},
		"long":                        {log, event(func(e *cluster.Event) { e.Detail = strings.Repeat("x", 2000) }), false},
		"no JSON":                     {log, []byte("{"), false},
		"without a sum":               {log, []byte("{}"), false},
		"under another's name":        {records.KeyLog + "00000000000000000001-h1-1", event(func(*cluster.Event) {}), false},
		"under a name with its own":   {records.KeyLog + "00000000000000000001-g1-1-h1-1", event(func(*cluster.Event) {}), false},
		"a request":                   {records.KeyRequests + "abc", []byte("2026-01-02T03:04:05Z"), true},
		"a request that is no time":   {records.KeyRequests + "abc", []byte("now"), false},
		"a request of a long key":     {records.KeyRequests + strings.Repeat("x", 65), []byte("2026-01-02T03:04:05Z"), false},
		"a large request":             {records.KeyRequests + "abc", big(1000, "%s"), false},
		"a count":                     {"upgrade-probe/u1/g1", []byte(`{"run":"u1","host":"g1"}`), true},
		"a count of a strange run":    {"upgrade-probe/u2/g1", []byte(`{"run":"u2","host":"g1"}`), false},
		"a count that is none":        {"upgrade-probe/u1/g1", []byte(`[]`), false},
		"a large count":               {"upgrade-probe/u1/g1", big(300<<10, `{"run":%q}`), false},
		"addresses":                   {"upgrade-probe/addr/g1", []byte(`{"run":"u1"}`), true},
		"addresses that are none":     {"upgrade-probe/addr/g1", []byte(`"x"`), false},
		"another's addresses":         {"upgrade-probe/addr/g2", []byte(`{"run":"u1"}`), false},
		"the time":                    {"upgrade-probe/u1/time/passed", []byte(`{}`), true},
		"the time of a strange run":   {"upgrade-probe/u2/time/passed", []byte(`{}`), false},
		"a note":                      {"upgrade-probe/u1/base/g1", []byte(`{}`), true},
		"a folder of its own":         {"upgrade-probe/u1/x/g1", []byte(`{}`), false},
		"the plan":                    {"upgrade-probe/u1/plan", []byte(`{}`), false},
		"a report":                    {"fleet/g1", []byte(`{"host":{"name":"g1"}}`), true},
		"a report of another":         {"fleet/g1", []byte(`{"host":{"name":"g2"}}`), false},
		"a report that is none":       {"fleet/g1", []byte(`{"host":`), false},
		"a large report":              {"fleet/g1", big(600<<10, `{"host":{"name":"g1"},"agent":%q}`), false},
		"a word of a guest":           {"fleet-carry/g2/u", []byte(`{"from":"g1","uuid":"u"}`), true},
		"of one that the other has":   {"fleet-carry/g2/theirs", []byte(`{"from":"g1","uuid":"theirs"}`), false},
		"to a host that is not there": {"fleet-carry/g9/u", []byte(`{"from":"g1","uuid":"u"}`), false},
		"a word under another key":    {"fleet-carry/g2/u", []byte(`{"from":"g1","uuid":"v"}`), false},
		"a large word of a guest":     {"fleet-carry/g2/u", big(10<<10, `{"from":"g1","name":%q}`), false},
		"a word of another's guest":   {"fleet-carry/g2/u", []byte(`{"from":"g3"}`), false},
		"a configuration":             {records.KeyConfig, []byte("{}"), false},
		"a key of nobody":             {"x", []byte("{}"), false},
		"a step that it has not got":  {"job/step/u1/g1/a", []byte("{}"), false},
	} {
		_, refused, err := store.Judge(store.Attempt{Host: "g1", Key: c.key, Value: c.value}, permits,
			func(*store.Attempt) (bool, error) { return false, nil },
			emptied)
		if (refused == nil) != c.want || err != nil {
			t.Errorf("%s: %v, %v, want permitted %t", name, refused, err, c.want)
		}
	}
	_, refused, _ := store.Judge(store.Attempt{Host: "g1", Key: records.KeyRequests + "abc", Value: []byte("2026-01-02T03:04:05Z")}, permits,
		func(a *store.Attempt) (bool, error) { a.Old = []byte("x"); return false, nil }, nil)
	if refused == nil {
		t.Error("a request of somebody is written anew")
	}
}

// TestAHostMaySayOfItselfThatItRests, and nothing else of what is asked for.
func TestAHostMaySayOfItselfThatItRests(t *testing.T) {
	old := cluster.Want{Run: true, HandsOff: true, Off: []cluster.Off{{Host: "h2", Mod: 5, User: "me"}},
		Maintenance: []cluster.HostID{"g2", "h1"}}
	with := func(change func(*cluster.Want)) []byte {
		raw, err := json.Marshal(old)
		var w cluster.Want
		if err == nil {
			err = json.Unmarshal(raw, &w)
		}
		if err != nil {
			t.Fatal(err)
		}
		change(&w)
		return records.Encode(w)
	}
	for name, c := range map[string]struct {
		change func(*cluster.Want)
		want   bool
	}{
		"nothing":             {func(*cluster.Want) {}, true},
		"itself":              {func(w *cluster.Want) { w.SetMaintenance("g1", true) }, true},
		"another":             {func(w *cluster.Want) { w.SetMaintenance("g3", true) }, false},
		"another out of it":   {func(w *cluster.Want) { w.SetMaintenance("g2", false) }, false},
		"the guest stops":     {func(w *cluster.Want) { w.SetMaintenance("g1", true); w.Run = false }, false},
		"hands on":            {func(w *cluster.Want) { w.HandsOff = false }, false},
		"migrate":             {func(w *cluster.Want) { w.MoveTo = "h3" }, false},
		"cancel a migration":  {func(w *cluster.Want) { w.Cancel = 7 }, false},
		"a host is said off":  {func(w *cluster.Want) { w.Off = append(w.Off, cluster.Off{Host: "h3", Mod: 1}) }, false},
		"a word is forgotten": {func(w *cluster.Want) { w.Off = nil }, false},
	} {
		a := store.Attempt{Host: "g1", Key: records.WantKey(cluster.MgmtVM), Value: with(c.change)}
		if err := permits(a); !errors.Is(err, store.ErrLook) {
			t.Errorf("%s: judged without a look: %v", name, err)
		}
		a.Looked, a.Old = true, records.Encode(old)
		if err := permits(a); !errors.Is(err, store.ErrNotYours) {
			t.Errorf("%s: without a condition: %v", name, err)
		}
		a.Guarded = true
		if err := permits(a); err == nil {
			t.Errorf("%s: permitted without an event", name)
		}
		for _, by := range []string{"g1", "g3"} {
			a.With = map[string][]byte{}
			for n, detail := range []string{"nothing new", "g1 in maintenance"} {
				e := cluster.Event{Time: time.Now(), Kind: cluster.EvWant, By: cluster.HostID(by), Resource: cluster.MgmtVM, Detail: detail}
				a.With[records.LogKey(e, uint64(n))] = records.Encode(e)
			}
			if err := permits(a); (err == nil) != (c.want && by == "g1") {
				t.Errorf("%s, with events by %s: %v, want permitted %t", name, by, err, c.want)
			}
		}
	}
	a := store.Attempt{Host: "g1", Key: records.WantKey(cluster.MgmtVM), Value: records.Encode(cluster.Want{}),
		Looked: true, Guarded: true, Old: records.Encode(cluster.Want{Maintenance: []cluster.HostID{"g1"}})}
	for detail, want := range map[string]bool{"g1 out of maintenance": true, "g1 in maintenance": false} {
		e := cluster.Event{Time: time.Now(), Kind: cluster.EvWant, By: "g1", Resource: cluster.MgmtVM, Detail: detail}
		a.With = map[string][]byte{records.LogKey(e, 1): records.Encode(e)}
		if err := permits(a); (err == nil) != want {
			t.Errorf("out of maintenance, by the event %q: %v", detail, err)
		}
	}
}

// TestWhatFillsTheStore is told by kind and host, and what a guest host has written goes by a command;
// what members have written stays.
func TestWhatFillsTheStore(t *testing.T) {
	a := newAuthority(t, t.TempDir())
	at := realMember(t, a)
	file := settings(t, try.ShortDir(t), func(n *config.Node) {
		n.TLS, n.Store.Endpoints = a.issue("h1"), []string{at}
		n.Store.Member = &config.Member{ListenPeer: "https://127.0.0.1:1", PeerURL: "https://127.0.0.1:1",
			ListenClient: at, ClientURL: at, Initial: map[string]string{"h1": "https://127.0.0.1:1"}}
	})
	st := a.open(at, "h1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var ops []store.Op
	for key, value := range map[string]string{
		records.KeyLog + "00000000000000000001-g1-1": "x", records.KeyLog + "00000000000000000002-g1-2": "x",
		records.KeyLog + "00000000000000000003-h1-3": "x",
		"upgrade-probe/u1/g1":                        strings.Repeat("x", 5000), "upgrade-probe/u1/plan": "x",
		"upgrade-probe/u1/plan/a1/g1": "whom it pings", "fleet/g1": "x",
		"fleet-carry/h1/u": `{"from":"g1"}`, "fleet-carry/g1/u": `{"from":"g2"}`, "fleet-carry/g1/v": "damaged", "state/x": "x",
	} {
		ops = append(ops, store.Op{Key: key, Value: []byte(value)})
	}
	if _, _, err := st.Txn(ctx, nil, ops); err != nil {
		t.Fatal(err)
	}
	taken, members, err := Usage(ctx, options(file))
	if err != nil || len(members) != 1 || len(taken) == 0 || taken[0].Kind != "upgrade-probe/" ||
		taken[0].Host != "g1" || taken[0].Bytes < 5000 {
		t.Errorf("usage: %+v, %+v, %v", taken, members, err)
	}
	if _, err := Clean(ctx, options(file), "h1", false); err == nil ||
		!strings.Contains(err.Error(), "runs guests only") && !strings.Contains(err.Error(), "run guests only") {
		t.Errorf("a member's records are cleaned: %v", err)
	}
	if n, err := Clean(ctx, options(file), "", true); n != 0 || err == nil {
		t.Errorf("what nobody has written is cleaned: %d, %v", n, err)
	}
	left := func() (keys []string) {
		kvs, _, err := st.List(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range kvs {
			keys = append(keys, kv.Key)
		}
		return keys
	}
	if n, err := Clean(ctx, options(file), "g1", false); n != 3 || err != nil {
		t.Errorf("%d records removed, %v", n, err)
	}
	want := []string{"fleet-carry/g1/u", "fleet-carry/g1/v", "fleet-carry/h1/u", "fleet/g1",
		records.KeyLog + "00000000000000000003-h1-3", "state/x", "upgrade-probe/u1/plan", "upgrade-probe/u1/plan/a1/g1"}
	if got := left(); !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
	if n, err := Clean(ctx, options(file), "g1", true); n != 1 || err != nil {
		t.Errorf("%d records removed with moves, %v", n, err)
	}
	if got := left(); slices.Contains(got, "fleet-carry/h1/u") || len(got) != len(want)-1 {
		t.Errorf("left with moves: %q", got)
	}
}
