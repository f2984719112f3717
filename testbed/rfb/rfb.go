// Package rfb has both ends of RFB 3.8 (RFC 6143), as far as tests of screens need them: a server that stands in for a
// guest's, and a viewer.
package rfb

import (
	"bytes"
	"crypto/des"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"sync"
	"testing"

	"holdfast/testbed/try"
)

// Size of the stand-in's screen, pixels.
const (
	Width  = 320
	Height = 200
)

// Server stands in for a guest's VNC server: its screen has one grey, which is another one after each key.
type Server struct {
	Password string // that it wants; "": none
	Flood    bool   // it sends without an end, whatever it is sent

	mu    sync.Mutex
	open  map[net.Conn]bool
	ever  int
	keys  []uint32
	given int64
	wg    sync.WaitGroup
}

// New makes a server whose connections end with the test.
func New(t testing.TB) *Server {
	s := &Server{open: map[net.Conn]bool{}}
	t.Cleanup(func() {
		s.Hang()
		s.wg.Wait()
	})
	return s
}

// Listen has the server listen at a unix socket or an address of TCP, until the test ends.
func (s *Server) Listen(t testing.TB, network, at string) net.Addr {
	t.Helper()
	ln, err := net.Listen(network, at)
	try.Must(t, err)
	t.Cleanup(func() { try.Must(t, ln.Close()) })
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.Speak(c)
		}
	})
	return ln.Addr()
}

// Dial is a new connection to the server.
func (s *Server) Dial() net.Conn {
	here, there := net.Pipe()
	s.Speak(there)
	return here
}

// Speak serves a connection.
func (s *Server) Speak(c net.Conn) {
	s.mu.Lock()
	s.open[c] = true
	s.ever++
	s.mu.Unlock()
	s.wg.Go(func() {
		_ = s.serve(c) // until one of them ends it
		c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
	})
}

// Hang ends all connections, as a guest's server does when the guest has moved.
func (s *Server) Hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Close()
	}
}

// Open is how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Ever is how many there were in all.
func (s *Server) Ever() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ever
}

// Keys are those that were pressed, as X11 names them.
func (s *Server) Keys() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint32(nil), s.keys...)
}

// Given is how many bytes were taken of a flood.
func (s *Server) Given() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given
}

func (s *Server) serve(c net.Conn) error {
	if s.Flood {
		block := make([]byte, 16<<10)
		for {
			n, err := c.Write(block)
			s.mu.Lock()
			s.given += int64(n)
			s.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
	if _, err := io.WriteString(c, "RFB 003.008\n"); err != nil {
		return err
	}
	if err := skip(c, 12); err != nil { // the version
		return err
	}
	if err := s.admit(c); err != nil {
		return err
	}
	if err := skip(c, 1); err != nil { // shared
		return err
	}
	const called = "stand-in"
	hello := binary.BigEndian.AppendUint16(nil, Width)
	hello = binary.BigEndian.AppendUint16(hello, Height)
	hello = append(hello, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0)
	hello = append(binary.BigEndian.AppendUint32(hello, uint32(len(called))), called...)
	if _, err := c.Write(hello); err != nil {
		return err
	}
	return s.obey(c)
}

// admit lets in who knows the password (RFC 6143, 7.1.2 and 7.2.2).
func (s *Server) admit(c net.Conn) error {
	kind := byte(1) // of security: none
	if s.Password != "" {
		kind = 2
	}
	if _, err := c.Write([]byte{1, kind}); err != nil {
		return err
	}
	if err := skip(c, 1); err != nil {
		return err
	}
	if s.Password == "" {
		_, err := c.Write([]byte{0, 0, 0, 0}) // it is fine
		return err
	}
	challenge, key, want := make([]byte, des.BlockSize*2), make([]byte, des.BlockSize), make([]byte, des.BlockSize*2)
	rand.Read(challenge)
	if _, err := c.Write(challenge); err != nil {
		return err
	}
	answer, err := take(c, len(challenge))
	if err != nil {
		return err
	}
	copy(key, s.Password)
	for i := range key {
		key[i] = bits.Reverse8(key[i])
	}
	block, err := des.NewCipher(key)
	if err != nil {
		return err
	}
	for i := 0; i < len(challenge); i += des.BlockSize {
		block.Encrypt(want[i:], challenge[i:])
	}
	if !bytes.Equal(answer, want) {
		const why = "it is another <password>"
		_, err := c.Write(append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(why))), why...))
		return errors.Join(ErrPassword, err)
	}
	_, err = c.Write([]byte{0, 0, 0, 0})
	return err
}

// obey answers the messages of a viewer.
func (s *Server) obey(c net.Conn) error {
	waits, grey := false, byte(0x40)
	for {
		var kind [1]byte
		if _, err := io.ReadFull(c, kind[:]); err != nil {
			return err
		}
		switch kind[0] {
		case 0: // the form of pixels
			if err := skip(c, 19); err != nil {
				return err
			}
		case 2: // encodings
			b, err := take(c, 3)
			if err == nil {
				err = skip(c, 4*int(binary.BigEndian.Uint16(b[1:])))
			}
			if err != nil {
				return err
			}
		case 3: // what is new, please
			b, err := take(c, 9)
			if err != nil {
				return err
			}
			if waits = b[0] != 0; !waits {
				err = picture(c, grey)
			}
			if err != nil {
				return err
			}
		case 4: // a key
			b, err := take(c, 7)
			if err != nil {
				return err
			}
			if b[0] == 0 {
				continue
			}
			s.mu.Lock()
			s.keys = append(s.keys, binary.BigEndian.Uint32(b[3:]))
			s.mu.Unlock()
			if grey += 0x20; waits {
				waits = false
				if err := picture(c, grey); err != nil {
					return err
				}
			}
		case 5: // the mouse
			if err := skip(c, 5); err != nil {
				return err
			}
		case 6: // the clipboard
			b, err := take(c, 7)
			if err == nil {
				err = skip(c, int(binary.BigEndian.Uint32(b[3:])))
			}
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("a message of kind %d", kind[0])
		}
	}
}

// picture sends the whole screen in one grey.
func picture(c net.Conn, grey byte) error {
	b := []byte{0, 0, 0, 1, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, Width)
	b = binary.BigEndian.AppendUint16(b, Height)
	b = append(b, 0, 0, 0, 0) // raw
	for range Width * Height {
		b = append(b, grey, grey, grey, 0)
	}
	_, err := c.Write(b)
	return err
}

func take(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func skip(r io.Reader, n int) error {
	_, err := io.CopyN(io.Discard, r, int64(n))
	return err
}

// ErrPassword: the server wants a password.
var ErrPassword = errors.New("the server wants a password")

// Look opens a screen as a viewer without a password does, and returns its size and its name.
func Look(c io.ReadWriter) (width, height int, name string, err error) {
	if _, err = take(c, 12); err != nil {
		return 0, 0, "", fmt.Errorf("its version: %w", err)
	}
	if _, err = io.WriteString(c, "RFB 003.008\n"); err != nil {
		return 0, 0, "", err
	}
	n, err := take(c, 1)
	if err != nil {
		return 0, 0, "", err
	}
	kinds, err := take(c, int(n[0]))
	if err != nil {
		return 0, 0, "", err
	}
	if len(kinds) == 0 || kinds[0] != 1 {
		return 0, 0, "", fmt.Errorf("%w: kinds of security %v", ErrPassword, kinds)
	}
	if _, err = c.Write([]byte{1}); err != nil {
		return 0, 0, "", err
	}
	if _, err = take(c, 4); err != nil {
		return 0, 0, "", err
	}
	if _, err = c.Write([]byte{1}); err != nil {
		return 0, 0, "", err
	}
	b, err := take(c, 24)
	if err != nil {
		return 0, 0, "", err
	}
	text, err := take(c, int(binary.BigEndian.Uint32(b[20:])))
	return int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:])), string(text), err
}

// Press presses a key, as X11 names it, and lets it go.
func Press(c io.Writer, key uint32) error {
	b := []byte{4, 1, 0, 0}
	b = binary.BigEndian.AppendUint32(b, key)
	b = append(b, 4, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, key)
	_, err := c.Write(b)
	return err
}
