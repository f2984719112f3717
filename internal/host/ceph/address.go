package ceph

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// client is one process that is connected to the cluster.
type client struct {
	name string // IP:PORT/NUMBER, as the blocklist has it
	ip   netip.Addr
}

// parseClient reads the address of a client. Some versions put the kind of the protocol
// before it.
func parseClient(s string) (client, error) {
	name := s
	if kind, rest, ok := strings.Cut(s, ":"); ok && (kind == "v1" || kind == "v2" || kind == "any") {
		name = rest
	}
	at, number, ok := strings.Cut(name, "/")
	ap, err := netip.ParseAddrPort(at)
	if _, bad := strconv.ParseUint(number, 10, 64); !ok || err != nil || bad != nil {
		return client{}, fmt.Errorf("%q is no address of a client, want IP:PORT/NUMBER", s)
	}
	return client{name, ap.Addr().Unmap()}, nil
}

// watchers are the clients that have the image open. Those that only read it are not
// seen; they do no harm.
func (c *Client) watchers(ctx context.Context) ([]client, error) {
	var st struct {
		Watchers *[]struct {
			Address string `json:"address"`
		} `json:"watchers"`
	}
	if err := c.askJSON(ctx, &st, "rbd", "status", c.image()); err != nil {
		return nil, err
	}
	if st.Watchers == nil {
		return nil, fmt.Errorf("rbd status %s: the answer has no watchers", c.image())
	}
	var out []client
	for _, w := range *st.Watchers {
		a, err := parseClient(w.Address)
		if err != nil {
			return nil, fmt.Errorf("rbd status %s: %w", c.image(), err)
		}
		out = append(out, a)
	}
	return out, nil
}

// lockers are the clients that hold the image's lock. A client that has not been heard
// of for half a minute is no watcher any more, but still has its lock.
func (c *Client) lockers(ctx context.Context) ([]client, error) {
	var all []struct {
		Address string `json:"address"`
	}
	if err := c.askJSON(ctx, &all, "rbd", "lock", "ls", c.image()); err != nil {
		return nil, err
	}
	var out []client
	for _, l := range all {
		a, err := parseClient(l.Address)
		if err != nil {
			return nil, fmt.Errorf("rbd lock ls %s: %w", c.image(), err)
		}
		out = append(out, a)
	}
	return out, nil
}

// shutOut are the addresses on the blocklist. The answer has a list of addresses and,
// in newer versions, one of ranges behind it.
func (c *Client) shutOut(ctx context.Context) (map[string]bool, error) {
	out, err := c.ask(ctx, nil, "ceph", "osd", "blocklist", "ls", "--format", "json")
	if err != nil {
		return nil, err
	}
	shut, lists := map[string]bool{}, 0
	for d := json.NewDecoder(bytes.NewReader(out)); ; lists++ {
		var all []struct {
			Addr string `json:"addr"`
		}
		if err := d.Decode(&all); errors.Is(err, io.EOF) && lists > 0 {
			return shut, nil
		} else if err != nil {
			return nil, fmt.Errorf("ceph osd blocklist ls: its answer can not be read: %w", err)
		}
		for _, e := range all {
			if a, err := parseClient(e.Addr); err == nil { // a range is none of ours
				shut[a.name] = true
			}
		}
	}
}

func randText() []byte { return []byte(rand.Text()) }
