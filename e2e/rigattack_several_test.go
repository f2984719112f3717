package e2e

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/pki"
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
	read, watch := readAll(), watchOf("fleet", "fleeu")
	h.workers(ctx, 2, func(ctx context.Context, m netip.Addr) {
		h.unread(ctx, m, storePort, "unread", 16, []unreadCall{watch, watch, read})
	})
	h.workers(ctx, 3, func(ctx context.Context, m netip.Addr) { h.deaf(ctx, m, 0, []unreadCall{read, watch}) })
	h.workers(ctx, 3, func(ctx context.Context, m netip.Addr) { h.deaf(ctx, m, time.Second, []unreadCall{read, watch}) })
	return nil
}

// enclosed is a message of gRPC.
func enclosed(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // it has no field that could not be
	}
	return enveloped(0, b)
}

const grpcKind = "application/grpc"

// readAll reads the whole store.
func readAll() unreadCall {
	r := &pb.RangeRequest{Key: []byte(storePrefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(storePrefix))}
	return unreadCall{path: pb.KV_Range_FullMethodName, kind: grpcKind, body: enclosed(r)}
}

// watchOf watches a range of it.
func watchOf(from, to string) unreadCall {
	c := &pb.WatchCreateRequest{Key: []byte(storePrefix + from), RangeEnd: []byte(storePrefix + to)}
	r := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}
	return unreadCall{path: pb.Watch_Watch_FullMethodName, kind: grpcKind, goesOn: true, body: enclosed(r)}
}

// past watches from long ago on, for a moment.
func (h *attacker) past(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := c.Get(ctx, storePrefix+"fleet/"+h.Host)
	if err != nil {
		h.count("past not read")
		clock.Sleep(ctx, 100*time.Millisecond)
		return
	}
	for w := range c.Watch(ctx, storePrefix+"fleet/", clientv3.WithPrefix(), clientv3.WithRev(max(1, r.Header.Revision-200))) {
		if w.Err() != nil {
			h.count("past over")
			clock.Sleep(ctx, 100*time.Millisecond)
			return
		}
		h.add(h.did, "changes of the past", len(w.Events))
	}
}

// deaf has many calls on one connection from which it reads nothing, or with a pause after each 4 KiB.
func (h *attacker) deaf(ctx context.Context, to netip.Addr, pause time.Duration, calls []unreadCall) {
	h.connected(ctx, to, storePort, "deaf", 100*time.Millisecond, func(c *tls.Conn) error {
		err := fill(c, to, calls)
		if err == nil && pause == 0 {
			clock.Sleep(ctx, 20*time.Second)
		}
		for buf := make([]byte, 4<<10); err == nil && pause > 0 && clock.Sleep(ctx, pause); {
			_, err = c.Read(buf)
		}
		return err
	})
}

// fill begins as many calls as a connection may have, with as much room for their answers as there can be.
func fill(c io.Writer, to netip.Addr, calls []unreadCall) error {
	const most = 1<<31 - 1
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	fr := http2.NewFramer(c, nil)
	err := errors.Join(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: most}), fr.WriteWindowUpdate(0, most-65535))
	for id := uint32(1); err == nil && id < 500; id += 2 {
		x := calls[int(id/2)%len(calls)]
		err = errors.Join(x.begin(fr, id, to), fr.WriteData(id, !x.goesOn, x.body))
	}
	return err
}

// pieces sends messages byte by byte, takes back calls as soon as they are begun, gives each a version of its own, and
// connects anew when that is ended.
func pieces(ctx context.Context, h *attacker) error {
	watch := watchOf("fleet", "fleeu")
	h.workers(ctx, 4, func(ctx context.Context, m netip.Addr) {
		var streams []uint32
		h.flood(ctx, m, "piece", func(f *flooder) error {
			if len(streams) < 8 {
				id, err := f.begin(watch)
				streams = append(streams, id)
				return errors.Join(err, f.bytewise(id, binary.BigEndian.AppendUint32([]byte{0}, 16_000)))
			}
			for _, id := range streams {
				if err := f.bytewise(id, []byte("x")); err != nil {
					return err
				}
			}
			return nil
		})
	})
	h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) {
		h.flood(ctx, m, "reset", func(f *flooder) error {
			id, err := f.begin(watch)
			return errors.Join(err, f.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		})
	})
	status := unreadCall{path: pb.Maintenance_Status_FullMethodName, kind: grpcKind, body: enclosed(&pb.StatusRequest{})}
	h.workers(ctx, 2, func(ctx context.Context, m netip.Addr) {
		h.flood(ctx, m, "version", func(f *flooder) error {
			id, err := f.begin(status, "client-api-version", random(1000))
			return errors.Join(err, f.fr.WriteData(id, true, status.body))
		})
	})
	return nil
}

// flooder is a connection on which something is done again and again.
type flooder struct {
	fr   *http2.Framer
	to   netip.Addr
	next uint32
}

// begin begins a stream.
func (f *flooder) begin(x unreadCall, more ...string) (id uint32, err error) {
	id = f.next
	f.next += 2
	return id, x.begin(f.fr, id, f.to, more...)
}

// bytewise sends each byte on its own.
func (f *flooder) bytewise(id uint32, b []byte) error {
	for i := range b {
		if err := f.fr.WriteData(id, false, b[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// flood does something on one connection again and again, as fast as it is taken, until that ends.
func (h *attacker) flood(ctx context.Context, to netip.Addr, name string, do func(*flooder) error) {
	h.connected(ctx, to, storePort, name, 10*time.Millisecond, func(c *tls.Conn) error {
		go func() { _, _ = io.Copy(io.Discard, c) }() // until it ends
		f := &flooder{http2.NewFramer(c, nil), to, 1}
		_, err := io.WriteString(c, http2.ClientPreface)
		if err == nil {
			err = f.fr.WriteSettings()
		}
		for err == nil && ctx.Err() == nil {
			if err = do(f); err == nil {
				h.count(name)
			}
		}
		return err
	})
}
