package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// unreadCall is what is asked for on a stream.
type unreadCall struct {
	path, kind string // the procedure, and the type of its messages
	body       []byte
	goesOn     bool // its request does not end
}

// begin writes the headers of a call.
func (x unreadCall) begin(fr *http2.Framer, id uint32, to netip.Addr, more ...string) error {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := []string{":method", "POST", ":scheme", "https", ":path", x.path, ":authority", to.String()}
	fields = append(fields, "content-type", x.kind, "te", "trailers", "connect-protocol-version", "1")
	fields = append(fields, more...)
	for i := 0; i < len(fields); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			return err
		}
	}
	return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(x.body) == 0})
}

// connected does something on a connection of its own, which is counted, and ends it.
func (h *attacker) connected(ctx context.Context, to netip.Addr, port uint16, name string, pause time.Duration, do func(*tls.Conn) error) {
	c, err := h.secured(ctx, to, port, h.tls, "h2")
	if err != nil {
		h.count(name + " no connection")
		clock.Sleep(ctx, pause)
		return
	}
	end := context.AfterFunc(ctx, func() { _ = c.Close() }) // no more is wanted of it
	h.add(h.open, name+" connections", 1)
	err = do(c)
	end()
	_ = c.Close() // the same
	h.add(h.open, name+" connections", -1)
	if err != nil {
		h.count(name + " connection ended")
	}
	clock.Sleep(ctx, pause)
}

// unread keeps streams on one connection whose answers nobody takes: it grants no window. It returns when the
// connection has ended.
func (h *attacker) unread(ctx context.Context, to netip.Addr, port uint16, name string, streams int, calls []unreadCall) {
	h.connected(ctx, to, port, name, 100*time.Millisecond, func(c *tls.Conn) error {
		u := &unreader{attacker: h, c: c, to: to, name: name, calls: calls, next: 1, under: map[uint32]bool{}}
		err := u.run(ctx, streams)
		h.add(h.open, name+" streams", -len(u.under))
		return err
	})
}

// unreader is such a connection.
type unreader struct {
	*attacker
	c     *tls.Conn
	to    netip.Addr
	name  string
	calls []unreadCall
	fr    *http2.Framer
	next  uint32
	under map[uint32]bool // streams

	leaving bool // it takes no more streams
}

func (u *unreader) run(ctx context.Context, streams int) error {
	if _, err := io.WriteString(u.c, http2.ClientPreface); err != nil {
		return err
	}
	u.fr = http2.NewFramer(u.c, u.c)
	u.fr.SetMaxReadFrameSize(1 << 20)
	if err := u.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		return err
	}
	for range streams {
		if err := u.begin(); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		f, err := u.fr.ReadFrame()
		if err != nil {
			return err
		}
		if err := u.take(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// take answers what keeps the connection up, and begins a stream for each that ends.
func (u *unreader) take(ctx context.Context, f http2.Frame) error {
	ended := false
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return u.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return u.fr.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame: // what is under way may go on
		u.leaving = true
	case *http2.RSTStreamFrame:
		ended = true
	case *http2.HeadersFrame:
		ended = f.StreamEnded()
	case *http2.DataFrame:
		ended = f.StreamEnded()
	}
	id := f.Header().StreamID
	if !ended || !u.under[id] {
		return nil
	}
	delete(u.under, id)
	u.add(u.open, u.name+" streams", -1)
	u.count(u.name + " stream ended")
	switch {
	case !u.leaving:
		clock.Sleep(ctx, time.Millisecond)
		return u.begin()
	case len(u.under) == 0:
		return errors.New("the server has ended it")
	}
	return nil
}

// begin begins one stream.
func (u *unreader) begin() error {
	x := u.calls[int(u.next/2)%len(u.calls)]
	id := u.next
	u.next += 2
	if err := x.begin(u.fr, id, u.to); err != nil {
		return err
	}
	u.under[id] = true
	u.add(u.open, u.name+" streams", 1)
	if len(x.body) == 0 {
		return nil
	}
	return u.fr.WriteData(id, !x.goesOn, x.body)
}

// enveloped puts the head of a message before it, as gRPC and connect have it.
func enveloped(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}

// unreadStore reads and watches all, and takes no answer.
func unreadStore(ctx context.Context, h *attacker) error {
	stores, err := h.stores()
	if err != nil {
		return err
	}
	read := readAll()
	fleet, jobs, all := watchOf("fleet", "state/heartbeat"), watchOf("state/hosts", "zzz"), watchOf("", "zzz") // the last has the secret
	calls := []unreadCall{read, fleet, read, jobs, read, all}
	own := h.report(400 << 10) // what all watches are told of
	h.workers(ctx, 1, func(ctx context.Context, m netip.Addr) {
		h.put(ctx, stores[m], "report", "fleet/"+h.Host, own)
		clock.Sleep(ctx, time.Second)
	})
	h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) { h.unread(ctx, m, storePort, "store", 64, calls) })
	// As many as it may have, and no more, so that none is refused.
	modest := []unreadCall{fleet, jobs}
	h.workers(ctx, 1, func(ctx context.Context, m netip.Addr) { h.unread(ctx, m, storePort, "modest", 20, modest) })
	return nil
}

// bombs sends requests that are large when they are unpacked, and keeps streams whose answers nobody takes.
func bombs(ctx context.Context, h *attacker) error {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for range 64 { // 65 kB when it is packed
		if _, err := z.Write(zeros); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: h.tls, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 40,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			return h.dial(ctx, to.Addr(), to.Port())
		},
	}}
	const streamed = "application/connect+proto"
	type bomb struct {
		name, path, kind, packing string
		body                      []byte
	}
	for _, b := range []bomb{
		{"RunUpgrade", apiv1connect.UpgradeServiceRunUpgradeProcedure, "application/proto", "Content-Encoding", packed.Bytes()},
		{"PutBundle", apiv1connect.UpgradeServicePutBundleProcedure, streamed, "Connect-Content-Encoding", enveloped(1, packed.Bytes())},
	} {
		h.workers(ctx, 10, func(ctx context.Context, m netip.Addr) {
			url := fmt.Sprintf("https://%s:%d%s", m, lab.APIPort, b.path)
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b.body))
			if err != nil {
				return // ctx has ended
			}
			r.Header.Set("Content-Type", b.kind)
			r.Header.Set(b.packing, "gzip")
			r.Header.Set("Connect-Protocol-Version", "1")
			resp, err := client.Do(r)
			if err != nil {
				h.count(b.name + " failed")
				clock.Sleep(ctx, 10*time.Millisecond)
				return
			}
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16)) // as much as there is
			_ = resp.Body.Close()                                   // no more is wanted of it
			h.count(fmt.Sprintf("%s %d %t", b.name, resp.StatusCode, bytes.Contains(text, []byte("permission_denied"))))
		})
	}
	calls := []unreadCall{
		{path: apiv1connect.ClusterServiceWatchStatusProcedure, kind: streamed, body: enveloped(0, nil)},
		{path: apiv1connect.JobServiceListHostsProcedure, kind: "application/proto"},
		{path: apiv1connect.UpgradeServiceGetUpgradeProcedure, kind: "application/proto"},
	}
	h.workers(ctx, 256, func(ctx context.Context, m netip.Addr) { h.unread(ctx, m, lab.APIPort, "api", 32, calls) })
	return nil
}
