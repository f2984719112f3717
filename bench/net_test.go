//go:build bench

package bench

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/net/rebuild"
	"holdfast/internal/transition/net/rows"
	"holdfast/testbed/try"
)

// posted is a request that has made an object.
type posted struct {
	path string
	body []byte
}

// recorder passes requests on to a Neutron, and keeps those that make something, in their order.
func recorder(t *testing.T, endpoint string) (at string, all func() []posted) {
	t.Helper()
	u, err := url.Parse(endpoint)
	try.Must(t, err)
	pass := httputil.NewSingleHostReverseProxy(u)
	var mu sync.Mutex
	var kept []posted
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			mu.Lock()
			kept = append(kept, posted{r.URL.Path, body})
			mu.Unlock()
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []posted { mu.Lock(); defer mu.Unlock(); return kept }
}

// TestNetApply compares transition net apply with a client that sends the very same POST requests, so many at
// once, and looks at nothing: no ID is asked for before, nothing is read back.
func TestNetApply(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	const networks, ports, jobs, runs = 20, 200, 8, 3
	ctx := t.Context()
	rig := nettest.MariaDB(t)
	of := func(testing.TB) *aligntest.Rig { return rig }
	d := nettest.Platform(networks, ports)
	groups := *d // what both have before
	groups.Networks, groups.Subnets, groups.Ports = nil, nil, nil
	begin := func(name string) (*nettest.Server, rebuild.Database) {
		s := nettest.Start(t, of, name, true)
		db := rebuild.Database{DSN: s.DB.DSN(), Name: name}
		apply(ctx, t, &groups, s.Endpoint(), db, jobs)
		return s, db
	}
	s, db := begin("recorded")
	at, all := recorder(t, s.Endpoint())
	apply(ctx, t, d, at, db, jobs)
	want := all()
	if len(want) != networks*2+ports {
		t.Fatalf("%d requests made objects, want %d", len(want), networks*2+ports)
	}
	var ours, plain, over series
	for range runs {
		s, db := begin("ours" + string(rune('a'+len(ours))))
		begun := time.Now()
		apply(ctx, t, d, s.Endpoint(), db, jobs)
		took := time.Since(begun).Seconds()
		ours = append(ours, float64(ports)/took)

		s, db = begin("plain" + string(rune('a'+len(plain))))
		begun = time.Now()
		replay(ctx, t, d, s, db, want, jobs)
		other := time.Since(begun).Seconds()
		plain, over = append(plain, float64(ports)/other), append(over, took/other)
		t.Logf("ours %.1f s, plain %.1f s, load %s", took, other, loadNow())
	}
	result(t, "%d ports in %d networks, %d runs, %d requests at once, ports/s: transition net apply, which looks "+
		"before and after, %s; the same POST requests alone %s; time of ours to that %s", ports, networks, runs, jobs, ours, plain, over)
}

func apply(ctx context.Context, t *testing.T, d *net.Document, endpoint string, db rebuild.Database, jobs int) {
	t.Helper()
	_, err := rebuild.Apply(ctx, d, rebuild.Order{API: rebuild.API{Endpoint: endpoint}, DB: db, Jobs: jobs}, func(rebuild.Progress) {})
	try.Must(t, err)
}

// replay sends requests to a Neutron, those of one collection after those of another, so many at once.
func replay(ctx context.Context, t *testing.T, d *net.Document, s *nettest.Server, at rebuild.Database, all []posted, jobs int) {
	t.Helper()
	db, err := rows.Open(ctx, "target", at.DSN, at.Name, nil)
	try.Must(t, err)
	defer func() { try.Must(t, db.Close()) }()
	client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: jobs}}
	for _, kind := range []string{"networks", "subnets", "ports"} {
		try.Must(t, db.Heartbeat(ctx, d.Agents)) // ports are bound to hosts with a living agent only
		next := make(chan posted)
		var work sync.WaitGroup
		for range jobs {
			work.Go(func() {
				for p := range next {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint()+p.path, bytes.NewReader(p.body))
					if err != nil {
						t.Error(err)
						continue
					}
					req.Header.Set("Content-Type", "application/json")
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						continue
					}
					said, err := io.ReadAll(resp.Body)
					if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusCreated {
						t.Errorf("%s: %s: %s: %v", p.path, resp.Status, said, err)
					}
				}
			})
		}
		for _, p := range all {
			if path.Base(p.path) == kind {
				next <- p
			}
		}
		close(next)
		work.Wait()
	}
}
