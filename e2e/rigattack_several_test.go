package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"holdfast/internal/pki"
	"holdfast/internal/sleep"
)

// severalHosts is an attack with the certificates of four hosts that run guests only.
const severalHosts = "several hosts"

// several writes as much as it may by all of its certificates at once, reads the past of that again and again, watches it
// and takes hardly anything, and has calls under way of whose answers it takes nothing.
func several(ctx context.Context, h *attacker) error {
	all := []*attacker{h}
	for name, f := range h.More {
		_, conf, err := pki.Load(f.CA, f.Cert, f.Key)
		if err != nil {
			return err
		}
		o := h.order
		o.Host, o.TLS = name, f
		all = append(all, &attacker{order: o, tls: conf, counters: h.counters})
	}
	for _, a := range all {
		if err := a.oneOfSeveral(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (h *attacker) oneOfSeveral(ctx context.Context) error {
	stores, err := h.stores()
	if err != nil {
		return err
	}
	own := h.report(400 << 10)
	h.workers(ctx, 2, func(ctx context.Context, m netip.Addr) { h.put(ctx, stores[m], "report", "fleet/"+h.Host, own) })
	h.workers(ctx, 4, func(ctx context.Context, m netip.Addr) { h.past(ctx, stores[m]) })
	read, watch := wholeStore()
	h.workers(ctx, 2, func(ctx context.Context, m netip.Addr) {
		h.unread(ctx, m, storePort, "unread", 16, []unreadCall{watch, watch, read})
	})
	h.workers(ctx, 3, func(ctx context.Context, m netip.Addr) { h.deaf(ctx, m, 0, []unreadCall{read, watch}) })
	h.workers(ctx, 3, func(ctx context.Context, m netip.Addr) { h.deaf(ctx, m, time.Second, []unreadCall{read, watch}) })
	return nil
}

// wholeStore reads all, and watches all.
func wholeStore() (read, watch unreadCall) {
	message := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			panic(err) // it has no field that could not be
		}
		return enveloped(0, b)
	}
	end := []byte(clientv3.GetPrefixRangeEnd(storePrefix))
	read = unreadCall{
		path: pb.KV_Range_FullMethodName, kind: "application/grpc", body: message(&pb.RangeRequest{Key: []byte(storePrefix), RangeEnd: end}),
	}
	watch = unreadCall{path: pb.Watch_Watch_FullMethodName, kind: "application/grpc", goesOn: true, body: message(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(storePrefix + "fleet"), RangeEnd: []byte(storePrefix + "fleeu")}},
	})}
	return read, watch
}

// past watches from long ago on, for a moment.
func (h *attacker) past(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := c.Get(ctx, storePrefix+"fleet/"+h.Host)
	if err != nil {
		h.count("past not read")
		sleep.For(ctx, 100*time.Millisecond)
		return
	}
	for w := range c.Watch(ctx, storePrefix+"fleet/", clientv3.WithPrefix(), clientv3.WithRev(max(1, r.Header.Revision-200))) {
		if w.Err() != nil {
			h.count("past over")
			sleep.For(ctx, 100*time.Millisecond)
			return
		}
		h.add(h.did, "changes of the past", len(w.Events))
	}
}

// deaf has many calls on one connection from which it reads nothing, or with a pause after each 4 KiB.
func (h *attacker) deaf(ctx context.Context, to netip.Addr, pause time.Duration, calls []unreadCall) {
	c, err := h.secured(ctx, to, storePort, h.tls, "h2")
	if err != nil {
		h.count("deaf no connection")
		sleep.For(ctx, 100*time.Millisecond)
		return
	}
	end := context.AfterFunc(ctx, func() { _ = c.Close() }) // no more is wanted of it
	h.add(h.open, "deaf connections", 1)
	defer func() {
		end()
		_ = c.Close() // the same
		h.add(h.open, "deaf connections", -1)
		sleep.For(ctx, 100*time.Millisecond)
	}()
	if err := h.fill(c, to, calls); err != nil {
		h.count("deaf connection ended")
		return
	}
	if pause == 0 {
		sleep.For(ctx, 20*time.Second)
		return
	}
	for buf := make([]byte, 4<<10); err == nil && sleep.For(ctx, pause); {
		_, err = c.Read(buf)
	}
}

// fill begins as many calls as a connection may have, with as much room for their answers as there can be.
func (h *attacker) fill(c io.Writer, to netip.Addr, calls []unreadCall) error {
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	fr := http2.NewFramer(c, nil)
	const most = 1<<31 - 1
	err := errors.Join(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: most}), fr.WriteWindowUpdate(0, most-65535))
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := uint32(0); err == nil && i < 250; i++ {
		x := calls[int(i)%len(calls)]
		block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", x.path}, {":authority", to.String()}, {"content-type", x.kind}, {"te", "trailers"}} {
			err = errors.Join(err, enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		id := 2*i + 1
		err = errors.Join(err, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}), fr.WriteData(id, !x.goesOn, x.body))
	}
	return err
}

// pieces sends messages byte by byte, takes back calls as soon as they are begun, gives each a version of its own, and
// connects anew when that is ended.
func pieces(ctx context.Context, h *attacker) error {
	_, watch := wholeStore()
	h.workers(ctx, 4, func(ctx context.Context, m netip.Addr) {
		h.flood(ctx, m, "piece", func(i int, fr *http2.Framer, head func(x unreadCall, more ...string) error) error {
			const size = 16_000
			if i == 0 {
				for range 8 {
					if err := head(watch); err != nil {
						return err
					}
				}
				return h.each(fr, 8, enveloped(0, make([]byte, size))[:5])
			}
			return h.each(fr, 8, []byte{byte(i)})
		})
	})
	h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) {
		h.flood(ctx, m, "reset", func(i int, fr *http2.Framer, head func(x unreadCall, more ...string) error) error {
			if err := head(watch); err != nil {
				return err
			}
			return fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		})
	})
	status := unreadCall{path: pb.Maintenance_Status_FullMethodName, kind: "application/grpc", body: enveloped(0, nil)}
	h.workers(ctx, 2, func(ctx context.Context, m netip.Addr) {
		h.flood(ctx, m, "version", func(i int, fr *http2.Framer, head func(x unreadCall, more ...string) error) error {
			if err := head(status, "client-api-version", random(1000)); err != nil {
				return err
			}
			return fr.WriteData(uint32(2*i+1), true, status.body)
		})
	})
	return nil
}

// each sends some bytes on the first streams of a connection.
func (h *attacker) each(fr *http2.Framer, streams uint32, b []byte) error {
	for id := uint32(1); id < 2*streams; id += 2 {
		for i := range b {
			if err := fr.WriteData(id, false, b[i:i+1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// flood does something again and again on one connection, as fast as it is taken, until that ends. Its streams are begun by head.
func (h *attacker) flood(ctx context.Context, to netip.Addr, name string, do func(i int, fr *http2.Framer, head func(x unreadCall, more ...string) error) error) {
	c, err := h.secured(ctx, to, storePort, h.tls, "h2")
	if err != nil {
		h.count(name + " no connection")
		sleep.For(ctx, 10*time.Millisecond)
		return
	}
	end := context.AfterFunc(ctx, func() { _ = c.Close() }) // no more is wanted of it
	defer func() {
		end()
		_ = c.Close() // the same
	}()
	go func() { _, _ = io.Copy(io.Discard, c) }() // until it ends
	fr := http2.NewFramer(c, nil)
	if _, err = io.WriteString(c, http2.ClientPreface); err == nil {
		err = fr.WriteSettings()
	}
	var block bytes.Buffer
	enc, id := hpack.NewEncoder(&block), uint32(1)
	head := func(x unreadCall, more ...string) error {
		block.Reset()
		fields := append([]string{":method", "POST", ":scheme", "https", ":path", x.path, ":authority", to.String(), "content-type", x.kind, "te", "trailers"}, more...)
		for i := 0; i < len(fields); i += 2 {
			if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
				return err
			}
		}
		id += 2
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id - 2, BlockFragment: block.Bytes(), EndHeaders: true})
	}
	for i := 0; err == nil && ctx.Err() == nil; i++ {
		if err = do(i, fr, head); err == nil {
			h.count(name)
		}
	}
	h.count(name + " connection ended")
}
