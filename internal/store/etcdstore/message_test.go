package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"holdfast/internal/store"
)

// envelop puts gRPC's envelope before a message.
func envelop(compressed bool, size int, msg []byte) []byte {
	head := []byte{0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}
	if compressed {
		head[0] = 1
	}
	return append(head, msg...)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestMessages: the messages of a stream are handed on as they are, up to one that is too large, of which nothing is.
func TestMessages(t *testing.T) {
	small := envelop(false, 3, []byte("abc"))
	full := envelop(false, smallBody, make([]byte, smallBody))
	for _, c := range []struct {
		name     string
		in, want []byte
		refused  bool
	}{
		{"small ones", bytes.Repeat(small, 3), bytes.Repeat(small, 3), false},
		{"empty ones", bytes.Repeat(envelop(false, 0, nil), 3), bytes.Repeat(envelop(false, 0, nil), 3), false},
		{"a full one", append(full, small...), append(full, small...), false},
		{"a large one", append(small, envelop(false, smallBody+1, make([]byte, smallBody+1))...), small, true},
		{"a compressed one", envelop(true, 3, []byte("abc")), nil, true},
	} {
		for how, r := range map[string]io.Reader{"whole": bytes.NewReader(c.in), "bytes": iotest.OneByteReader(bytes.NewReader(c.in))} {
			m := newMessages(t.Context(), io.NopCloser(r))
			got, err := io.ReadAll(readerFunc(func(p []byte) (int, error) { m.want(); return m.Read(p) }))
			if c.refused && (err == nil || !bytes.HasPrefix(got, c.want) || len(got) >= len(c.want)+envelope) {
				t.Errorf("%s, %s: %d bytes and %v, want less than %d and an error", c.name, how, len(got), err, len(c.want)+envelope)
			}
			if !c.refused && (err != nil || !bytes.Equal(got, c.want)) {
				t.Errorf("%s, %s: %d bytes and %v, want %d", c.name, how, len(got), err, len(c.want))
			}
		}
	}
}

// TestReadMessage: a message is refused by its size before it is read.
func TestReadMessage(t *testing.T) {
	if got, err := readMessage(bytes.NewReader(envelop(false, 3, []byte("abcdef"))),
		3); string(got) != "\x00\x00\x00\x00\x03abc" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for name, in := range map[string][]byte{
		"large": envelop(false, 4, []byte("abcd")), "compressed": envelop(true, 3, []byte("abc")),
		"cut off": envelop(false, 3, []byte("ab")), "none": nil,
	} {
		r := bytes.NewReader(in)
		if got, err := readMessage(r, 3); err == nil {
			t.Errorf("%s: %q", name, got)
		} else if name == "large" && r.Len() != 4 {
			t.Errorf("%s: %d bytes are left, want the message", name, r.Len())
		}
	}
}

func put(key string, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: value}}}
}

func ifMod(key string, rev int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: rev}}
}

// TestCheckTxn: what our client writes is allowed, also at its limits; what takes more memory when it is decoded than
// it has bytes is not.
func TestCheckTxn(t *testing.T) {
	many := func(n int) (out []*pb.RequestOp) {
		for range n {
			out = append(out, put("k", []byte("v")))
		}
		return out
	}
	encode := func(r *pb.TxnRequest) []byte {
		b, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	remove := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}}
	nested := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: many(1)}}}
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}
	full := &pb.TxnRequest{Success: append(many(maxOps-1), remove)}
	for range maxOps {
		full.Compare = append(full.Compare, ifMod("k", 1))
	}
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType), make([]byte, 1<<20))
	for _, c := range []struct {
		name string
		msg  []byte
		ok   bool
	}{
		{"nothing", nil, true},
		{"full", encode(full), true},
		{"too many writes", encode(&pb.TxnRequest{Success: many(maxOps + 1)}), false},
		{"too many conditions", encode(&pb.TxnRequest{Compare: append(full.Compare, ifMod("k", 1))}), false},
		{"a million of nothing", bytes.Repeat([]byte{2<<3 | 2, 0}, 1<<20), false},
		{"a transaction in it", encode(&pb.TxnRequest{Success: []*pb.RequestOp{nested}}), false},
		{"a read", encode(&pb.TxnRequest{Success: []*pb.RequestOp{read}}), false},
		{"unknown", unknown, false},
		{"cut off", encode(full)[:len(encode(full))-1], false},
	} {
		if err := checkTxn(c.msg); (err == nil) != c.ok {
			t.Errorf("%s: %v, want allowed: %t", c.name, err, c.ok)
		}
	}
	one, err := proto.Marshal(put("k", []byte("v")))
	if err != nil {
		t.Fatal(err)
	}
	twice := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), append(one, one...))
	if err := checkTxn(twice); err == nil {
		t.Error("two writes in one are allowed")
	}
}

// standIn is a guard whose member has one key, state/a, of revision 5, at revision 10.
func standIn(permits func(store.Attempt) error) *guard {
	g := &guard{rules: Guard{Permits: permits}, prefix: root + "c/", bounds: newBounds(nil)}
	r := ranger(func(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
		out := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 10}}
		if string(r.Key) == g.prefix+"state/a" {
			out.Kvs = []*mvccpb.KeyValue{{Key: r.Key, Value: []byte("g1"), ModRevision: 5}}
		}
		return out, nil
	})
	g.ranges.Store(&r)
	return g
}

// TestVoid: a transaction that fails by itself is answered as etcd would, and takes of what the host may write.
func TestVoid(t *testing.T) {
	looked := 0
	g := standIn(func(a store.Attempt) error {
		if !a.Looked {
			looked++
			return store.ErrLook
		}
		return nil
	})
	p := g.prefix
	req := &pb.TxnRequest{
		Compare: []*pb.Compare{ifMod(p+"state/a", 3)},
		Success: []*pb.RequestOp{put(p+"state/a", nil), put(p+"state/b", make([]byte, bytesBurst/4))},
	}
	for i := range 4 {
		failed, err := g.mayWrite(t.Context(), "g1", req)
		if i == 3 {
			if err == nil || !strings.Contains(err.Error(), refusedForNow) || looked != i {
				t.Errorf("the last: %v, looked at %d times, want it refused before", err, looked)
			}
			break
		}
		if err != nil || failed == nil || failed.Succeeded || failed.Header.GetRevision() != 10 {
			t.Fatalf("transaction %d: %v, %v, want it failed at revision 10", i, failed, err)
		}
	}
}

// TestWritesAreCountedWhole: conditions, and what is refused, take of what a host may write.
func TestWritesAreCountedWhole(t *testing.T) {
	refused := errors.New("no")
	for name, rule := range map[string]error{"permitted": nil, "refused": refused} {
		g := standIn(func(store.Attempt) error { return rule })
		long := strings.Repeat("k", bytesBurst/8)
		var last error
		for i := 0; i < 20 && (last == nil || rule != nil && strings.Contains(last.Error(), rule.Error())); i++ {
			_, last = g.mayWrite(t.Context(), "g1", &pb.TxnRequest{
				Compare: []*pb.Compare{ifMod(long, 3)}, Success: []*pb.RequestOp{put(g.prefix+"state/b", nil)},
			})
		}
		if last == nil || !strings.Contains(last.Error(), refusedForNow) {
			t.Errorf("%s: %v, want the bound", name, last)
		}
	}
}

// TestLogInMemory: what one host alone can have put into the log of raft, on three members, stays far below the
// memory that a member may have, while it runs and when it starts again.
func TestLogInMemory(t *testing.T) {
	cfg, err := newMembers(t, 3, plain)[0].conf.etcd()
	if err != nil {
		t.Fatal(err)
	}
	const members, perSecond, most = 3, 2, 32 << 20
	for what, entries := range map[string]uint64{"running": cfg.SnapshotCatchUpEntries, "starting": cfg.SnapshotCount} {
		if bytes := members * (bytesBurst + bytesPerSec*int(entries)/perSecond); bytes > most {
			t.Errorf("%s: %d MiB in %d entries, want at most %d", what, bytes>>20, entries, most>>20)
		}
	}
}
