package heartbeat

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

var testKey = bytes.Repeat([]byte{7}, keySize)

// full is the largest message.
func full() *message {
	m := &message{cluster: clusterKey("c"), from: 1, to: 2, instance: 3, seq: 4, echo: echo{5, 6}}
	for i := range maxEntries {
		m.sightings = append(m.sightings, sighting{uint64(i) << 50, min(maxAge, time.Duration(i)*100*time.Second)})
	}
	return m
}

func TestALargestDatagramFitsAFrame(t *testing.T) {
	var s sealer
	if ok, err := s.use(testKey); !ok || err != nil {
		t.Fatal(ok, err)
	}
	b := s.seal(encode(nil, full()))
	if len(b) != maxDatagram || maxDatagram >= 1200 {
		t.Fatalf("%d bytes, want %d, less than 1200", len(b), maxDatagram)
	}
	var got message
	if err := decode(b[:len(b)-macSize], &got); err != nil {
		t.Fatal(err)
	}
	if want := full(); !reflect.DeepEqual(&got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	change := func(f func(b []byte)) []byte {
		b := encode(nil, full())
		f(b)
		return b
	}
	for name, tt := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":             {nil, errMalformed},
		"another magic":       {change(func(b []byte) { b[0] = 'x' }), errMalformed},
		"a later version":     {change(func(b []byte) { b[4]++ }), errVersion},
		"version 0, short":    {[]byte("HFHB\x00"), errVersion},
		"only a magic":        {[]byte("HFHB"), errMalformed},
		"a cut header":        {encode(nil, full())[:headerSize-1], errMalformed},
		"a byte too few":      {encode(nil, full())[:headerSize+entrySize-1], errMalformed},
		"a byte too many":     {append(encode(nil, full()), 0), errMalformed},
		"one sighting more":   {append(change(func(b []byte) { b[5]++ }), bytes.Repeat([]byte{255}, entrySize)...), errMalformed},
		"no instance":         {change(func(b []byte) { clear(b[38:46]) }), errMalformed},
		"no sequence number":  {change(func(b []byte) { clear(b[46:54]) }), errMalformed},
		"half an echo":        {change(func(b []byte) { clear(b[54:62]) }), errMalformed},
		"an age too large":    {change(func(b []byte) { b[headerSize+8] = 1 }), errMalformed},
		"a host twice":        {change(func(b []byte) { copy(b[headerSize+entrySize:], b[headerSize:headerSize+8]) }), errMalformed},
		"hosts out of order":  {change(func(b []byte) { b[headerSize] = 255 }), errMalformed},
		"a count of 255":      {change(func(b []byte) { b[5] = 255 }), errMalformed},
		"a count one too low": {change(func(b []byte) { b[5]-- }), errMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if err := decode(tt.b, &message{}); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestKeysAndClustersDiffer(t *testing.T) {
	seen := map[uint64]cluster.HostID{}
	for i := range 10_000 {
		h := cluster.HostID(fmt.Sprintf("host-%d", i))
		if other, taken := seen[hostKey(h)]; taken {
			t.Fatalf("%s and %s have the same key", h, other)
		}
		seen[hostKey(h)] = h
	}
	if clusterKey("a") == clusterKey("b") {
		t.Error("two clusters have the same key")
	}
}

func TestSealerFollowsTheKey(t *testing.T) {
	var s sealer
	if ok, err := s.use(nil); ok || err != nil {
		t.Errorf("no key: %v, %v, want false and no error", ok, err)
	}
	if ok, err := s.use(testKey[1:]); ok || err == nil {
		t.Errorf("31 bytes: %v, %v, want false and an error", ok, err)
	}
	use := func(key []byte) {
		t.Helper()
		if ok, err := s.use(key); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	use(testKey)
	body := []byte("body")
	sealed := s.seal(bytes.Clone(body))
	if !s.check(body, sealed[len(body):]) {
		t.Error("its own seal is refused")
	}
	use(bytes.Repeat([]byte{8}, keySize))
	if s.check(body, sealed[len(body):]) {
		t.Error("a seal of the key before is taken")
	}
	use(testKey)
	if !s.check(body, sealed[len(body):]) {
		t.Error("the first key is not taken again")
	}
}

// FuzzDecode: no panic, and what is decoded has one form only.
func FuzzDecode(f *testing.F) {
	f.Add(encode(nil, full()))
	f.Add(encode(nil, &message{instance: 1, seq: 1}))
	f.Add(encode(nil, &message{instance: 1, seq: 1, sightings: []sighting{{1, 0}, {2, maxAge}}}))
	f.Add([]byte("HFHB\x02"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m message
		if decode(b, &m) != nil {
			return
		}
		again := encode(nil, &m)
		if !bytes.Equal(again, b) {
			t.Fatalf("%x decoded to %+v, encoded to %x", b, m, again)
		}
		var twice message
		if err := decode(again, &twice); err != nil {
			t.Fatal(err)
		}
		if len(m.sightings) == 0 {
			m.sightings, twice.sightings = nil, nil
		}
		if !reflect.DeepEqual(m, twice) {
			t.Fatalf("got %+v, want %+v", twice, m)
		}
	})
}
