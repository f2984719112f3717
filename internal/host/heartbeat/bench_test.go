package heartbeat

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// solo is a member with peers whose heartbeats all come back to itself.
func solo(b *testing.B, peers int) *Exchange {
	b.Helper()
	beats, err := Open(Options{
		Self: "self", Listen: "127.0.0.1:0", Cluster: "bench",
		Key:      func() []byte { return testKey },
		Interval: func() time.Duration { return time.Hour }, // no stall, whatever the benchmark waits for
		Clock:    clock.New().Now,
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := beats.Close(); err != nil {
			b.Error(err)
		}
	})
	addrs := map[cluster.HostID]netip.AddrPort{}
	for i := range peers {
		addrs[cluster.HostID(fmt.Sprintf("h%d", i))] = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(beats.Port()))
	}
	beats.table.start(clock.New().Now())
	beats.SetPeers(addrs)
	return beats
}

// incoming is the next heartbeat of a peer, sealed.
func incoming(b *Exchange, buf []byte, m *message, seq uint64) []byte {
	m.seq = seq
	return b.out.sealer.seal(encode(buf[:0], m))
}

func firstMessage(beats *Exchange) *message {
	m := &message{cluster: beats.cluster, from: beats.table.peers[0].id, to: beats.table.id, instance: 1}
	for _, p := range beats.table.peers {
		m.sightings = append(m.sightings, sighting{p.id, time.Second})
	}
	return m
}

// BenchmarkReceive is a datagram of a cluster of n, made, checked and taken in.
func BenchmarkReceive(b *testing.B) {
	for _, n := range []int{7, 65} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			beats := solo(b, n-1)
			if _, err := beats.out.sealer.use(testKey); err != nil {
				b.Fatal(err)
			}
			m := firstMessage(beats)
			buf := make([]byte, 0, maxDatagram)
			b.ReportAllocs()
			seq, in := uint64(0), &inbox{}
			for b.Loop() {
				seq++
				beats.handle(in, incoming(beats, buf, m, seq))
			}
			if got := beats.Stats().Accepted; got != seq {
				b.Fatalf("%d of %d taken in", got, seq)
			}
		})
	}
}

// BenchmarkSecondOfSeven is what a member of seven does in one second at 200 ms:
// it sends 30 heartbeats and reads 30 from its socket. (Those are its own, which
// come back, and are dropped after the HMAC; the table is in BenchmarkReceive.)
func BenchmarkSecondOfSeven(b *testing.B) {
	beats := solo(b, 6)
	buf, in := make([]byte, maxDatagram+1), &inbox{}
	b.ReportAllocs()
	for b.Loop() {
		for range 5 {
			beats.Pulse()
			beats.turn(time.Hour)
			for range 6 {
				n, _, err := beats.conns[0].ReadFromUDPAddrPort(buf)
				if err != nil {
					b.Fatal(err)
				}
				beats.handle(in, buf[:n])
			}
		}
	}
	b.ReportMetric(100*float64(b.Elapsed())/float64(b.N)/1e9, "%core")
}

func BenchmarkWordsOfSeven(b *testing.B) {
	beats := solo(b, 6)
	b.ReportAllocs()
	for b.Loop() {
		if len(beats.Words()) != 1 {
			b.Fatal("words")
		}
	}
}
