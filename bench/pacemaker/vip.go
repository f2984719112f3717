package pacemaker

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"holdfast/testbed/lab"
)

// vipLast is the last number of the address.
const vipLast = 9

// vipWork is an address and a web server on it.
type vipWork struct{ lab *lab.Lab }

func (w vipWork) addr() netip.Addr { return neighbour(w.lab, vipLast) }

func (w vipWork) ids() []string { return []string{"web", "vip"} }

func (w vipWork) resources(o Options) (string, error) {
	return `<group id="service">` +
		primitive("vip", `class="ocf" provider="heartbeat" type="IPaddr2"`,
			[]attr{{"ip", w.addr().String()}, {"cidr_netmask", "24"}, {"nic", "br0"}}, o.Profile.Monitor) +
		primitive("web", `class="ocf" provider="bench" type="web"`, []attr{{"ip", w.addr().String()}}, o.Profile.Monitor) +
		`</group>`, nil
}

// answer reads the page: the server's host, and a word that is new at each start.
// A service without a boot needs no time to settle.
func (w vipWork) answer(ctx context.Context) (string, time.Duration, error) {
	body, err := w.get(ctx, 2*time.Second)
	return body, minUp, err
}

func (w vipWork) crash(ctx context.Context, host string) error {
	return w.lab.Kill(ctx, host, "cmd:httpd -f -p "+w.addr().String())
}

func (w vipWork) get(ctx context.Context, limit time.Duration) (string, error) {
	body, err := w.lab.Page(ctx, w.addr(), "/", limit)
	return strings.TrimSpace(body), err
}

// probe fetches the page every lab.PingInterval, each probe on its own with
// lab.PingLimit, and counts as lab.Ping does. Probes whose limit the end of ctx
// cut short are not counted.
func (w vipWork) probe(ctx context.Context) (lab.Pings, error) {
	var mu sync.Mutex
	var probes []probed
	var wg sync.WaitGroup
	t := time.NewTicker(lab.PingInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return tally(probes), nil
		case <-t.C:
		}
		sent := time.Now()
		mu.Lock()
		n := len(probes)
		probes = append(probes, probed{sent: sent})
		mu.Unlock()
		wg.Go(func() {
			_, err := w.get(ctx, lab.PingLimit)
			mu.Lock()
			defer mu.Unlock()
			probes[n].ok, probes[n].cut = err == nil, err != nil && ctx.Err() != nil
		})
	}
}

// probed is one probe; cut says that its limit was not reached.
type probed struct {
	sent    time.Time
	ok, cut bool
}

// tally sums probes up.
func tally(probes []probed) lab.Pings {
	var p lab.Pings
	var last time.Time // of the latest answered probe
	var open *lab.Outage
	for _, q := range probes {
		if q.cut {
			continue
		}
		if last.IsZero() {
			last = q.sent
		}
		p.Sent++
		p.Longest = max(p.Longest, q.sent.Sub(last))
		if q.ok {
			last = q.sent
			if open != nil {
				open.End, open = q.sent, nil
			}
			continue
		}
		p.Lost++
		if open == nil {
			p.Outages = append(p.Outages, lab.Outage{Start: q.sent})
			open = &p.Outages[len(p.Outages)-1]
		}
		open.Lost++
	}
	return p
}
