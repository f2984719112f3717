package bmc

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Payload types of RMCP+, and where things are in its datagrams (IPMI 2.0,
// section 13.6): RMCP header, then session header, then payload, then trailer.
const (
	openRequest, openResponse = 0x10, 0x11
	rakp1, rakp2              = 0x12, 0x13
	rakp3, rakp4              = 0x14, 0x15
	secured                   = 0xc0 // of the payload type: encrypted and authenticated

	rmcpLen   = 4
	headerLen = 16 // RMCP and session header
	blockLen  = 16 // of AES
)

// wire is the connection that go-ipmi is given. That library does not look at
// the authentication code of what it receives, takes IPMI 1.5 answers within a
// 2.0 session, takes the next datagram for the answer while a session is set up,
// and panics on encrypted payloads of a wrong length. Here only those datagrams
// pass that the device has authenticated, in their order and of the step that is
// due. So neither a forged nor a late "off" is believed.
//
// It also ends each wait when its context ends.
type wire struct {
	net.Conn
	user, password string
	auth           types.AuthAlg
	integrity      types.IntegrityAlg
	macLen         int

	mu  sync.Mutex
	ctx context.Context // of the step under way
	off func() bool     // stops following ctx

	// The library's exchanges follow one another, so these have no lock.
	sent                uint8 // payload type of the last request
	status              uint8 // of the last answer of the session's set-up
	console             uint32
	consoleRand         []byte
	role                uint8
	deviceRand          []byte
	k1, k2              []byte
	received, discarded uint32 // highest session sequence number; datagrams dropped
}

// dialWire connects to addr. Nothing is sent yet.
func dialWire(ctx context.Context, addr, user, password string, suite int) (*wire, error) {
	auth, integrity, crypt, ok := types.GetCipherSuiteAlgorithms(types.CipherSuiteID(suite))
	macLen, ok2 := crypto.IntegrityAuthCodeLen(integrity)
	if !ok || !ok2 || macLen == 0 || crypt != types.CryptAlg_AES_CBC_128 {
		return nil, fmt.Errorf("cipher suite %d is not supported", suite)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, user: user, password: password, auth: auth, integrity: integrity, macLen: macLen}
	w.follow(ctx)
	return w, nil
}

// Dial makes wire the library's dialer, whatever address it asks for.
func (w *wire) Dial(_, _ string) (net.Conn, error) { return w, nil }

// follow makes the end of ctx end each Read from now on.
func (w *wire) follow(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off != nil {
		w.off()
	}
	w.ctx = ctx
	w.off = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.ctx == ctx {
			_ = w.Conn.SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection, whose Read has ended
		}
	})
}

// ended is not a net.Error, or the library would go on until its own timeout.
func (w *wire) ended() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("no time left: %w", err)
	}
	return nil
}

// SetReadDeadline sets the library's, unless the context has ended.
func (w *wire) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		t = time.Unix(1, 0)
	}
	return w.Conn.SetReadDeadline(t)
}

// Close may be called twice.
func (w *wire) Close() error {
	w.mu.Lock()
	w.off()
	w.mu.Unlock()
	return w.Conn.Close()
}

// Write sends a request of the library and notes what its answer is told by.
func (w *wire) Write(p []byte) (int, error) {
	if len(p) < headerLen {
		return 0, fmt.Errorf("request of %d bytes", len(p))
	}
	w.sent, w.status = p[5]&0x3f, 0
	switch body := p[headerLen:]; {
	case w.sent == openRequest && len(body) >= 8:
		w.console = binary.LittleEndian.Uint32(body[4:])
	case w.sent == rakp1 && len(body) >= 25:
		w.consoleRand, w.role = append([]byte(nil), body[8:24]...), body[24]
	}
	return w.Conn.Write(p)
}

// Read returns the next datagram that may be the answer to the last request.
func (w *wire) Read(b []byte) (int, error) {
	for {
		n, err := w.Conn.Read(b)
		if err != nil {
			if end := w.ended(); end != nil {
				err = end
			}
			return 0, err
		}
		if w.accept(b[:n]) {
			return n, nil
		}
		w.discarded++
	}
}

func (w *wire) accept(p []byte) bool {
	if len(p) < headerLen || p[0] != types.RmcpVersion || p[3] != 0x07 || p[4] != uint8(types.AuthTypeRMCPPlus) {
		return false
	}
	size := int(binary.LittleEndian.Uint16(p[14:]))
	if headerLen+size > len(p) {
		return false
	}
	switch w.sent {
	case openRequest, rakp1, rakp3:
		return p[5] == w.sent+1 && binary.LittleEndian.Uint32(p[6:]) == 0 && w.acceptSetup(p[headerLen:headerLen+size])
	}
	return p[5] == secured && w.acceptSecured(p, size)
}

// acceptSetup takes an answer of the session's set-up. Whether it is authentic
// is for the library to say: it checks RAKP 2 and 4.
func (w *wire) acceptSetup(body []byte) bool {
	if len(body) < 2 {
		return false
	}
	if w.status = body[1]; w.status != 0 {
		return true
	}
	switch w.sent {
	case openRequest:
		// Without this a forged answer could talk us into a session without keys.
		if len(body) < 36 || binary.LittleEndian.Uint32(body[4:]) != w.console {
			return false
		}
		if body[16]&0x3f != uint8(w.auth) || body[24]&0x3f != uint8(w.integrity) || body[32]&0x3f != uint8(types.CryptAlg_AES_CBC_128) {
			w.status = uint8(types.RmcpStatusCodeNoCipherSuiteMatch)
		}
	case rakp1:
		if len(body) < 40 {
			return false
		}
		w.deviceRand = append([]byte(nil), body[8:24]...)
	}
	return true
}

// acceptSecured checks an answer within the session: ours, newer than all before,
// authentic, and of a form that can be decrypted.
func (w *wire) acceptSecured(p []byte, size int) bool {
	seq := binary.LittleEndian.Uint32(p[10:])
	if binary.LittleEndian.Uint32(p[6:]) != w.console || seq <= w.received {
		return false
	}
	if size < 2*blockLen || size%blockLen != 0 || len(p) < headerLen+size+2+w.macLen {
		return false
	}
	if w.k1 == nil && !w.derive() {
		return false
	}
	end := len(p) - w.macLen
	mac, err := crypto.SessionIntegrityAuthCode(w.integrity, p[rmcpLen:end], w.k1, w.password)
	if err != nil || !crypto.Equal(mac, p[end:]) {
		return false
	}
	if _, err := crypto.DecryptAESPayload(p[headerLen:headerLen+size], w.k2); err != nil {
		return false
	}
	w.received = seq
	return true
}

// derive makes the session's keys, as the library does on its side.
func (w *wire) derive() bool {
	if w.consoleRand == nil || w.deviceRand == nil {
		return false
	}
	_, k1, k2, err := crypto.DeriveSessionKeys(w.auth, w.consoleRand, w.deviceRand, w.role, w.user,
		crypto.PadPassword20([]byte(w.password)))
	w.k1, w.k2 = k1, k2
	return err == nil
}
