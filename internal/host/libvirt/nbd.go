package libvirt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// This file speaks as much of the NBD protocol as it takes to see what an export
// is: fixed newstyle negotiation, the options STARTTLS and GO, one read
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md). All
// numbers are big endian.

// Numbers of the protocol.
const (
	nbdMagic       = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOptMagic    = 0x49484156454f5054 // "IHAVEOPT"
	nbdReplyMagic  = 0x3e889045565a9
	nbdAskMagic    = 0x25609513
	nbdAnswerMagic = 0x67446698

	nbdFlagFixed    = 1 << 0 // of the server: it understands options
	nbdFlagNoZeroes = 1 << 1

	nbdOptStartTLS = 5
	nbdOptGo       = 7
	nbdRepAck      = 1
	nbdRepInfo     = 3
	nbdRepError    = 1 << 31 // set in all errors
	nbdErrTLS      = nbdRepError | 5
	nbdErrUnknown  = nbdRepError | 6
	nbdInfoExport  = 0
	nbdExportRO    = 1 << 1 // transmission flag
	nbdCmdRead     = 0
	nbdCmdDisc     = 2
	nbdReplyMost   = 64 << 10 // bytes of a reply to an option; only texts for people are long
	nbdHeadMost    = 512      // bytes read; a server may refuse less than a sector
	nbdClientFlags = nbdFlagFixed | nbdFlagNoZeroes
)

var errReadOnly = errors.New("the export can only be read: offer it for writing")

// nbdHead opens the export and returns its first bytes, at most nbdHeadMost. It
// fails when the export is empty or can not be written. encrypt is called when the
// server is ready for TLS, and returns what to go on with; nil: without TLS. The
// caller bounds it by a deadline on rw.
func nbdHead(rw io.ReadWriter, export string, encrypt func() (io.ReadWriter, error)) ([]byte, error) {
	if err := nbdGreet(rw); err != nil {
		return nil, err
	}
	if encrypt != nil {
		if err := nbdStartTLS(rw); err != nil {
			return nil, err
		}
		var err error
		if rw, err = encrypt(); err != nil {
			return nil, err
		}
	}
	size, err := nbdGo(rw, export)
	if err != nil {
		return nil, err
	}
	head := make([]byte, min(size, nbdHeadMost))
	if err := nbdSend(rw, uint32(nbdAskMagic), uint16(0), uint16(nbdCmdRead), uint64(1), uint64(0), uint32(len(head))); err != nil {
		return nil, err
	}
	var answer struct {
		Magic, Err uint32
		Cookie     uint64
	}
	if err := nbdReceive(rw, &answer); err != nil {
		return nil, err
	}
	if answer.Magic != nbdAnswerMagic || answer.Cookie != 1 {
		return nil, errors.New("the answer to a read is not NBD's")
	}
	if answer.Err != 0 {
		return nil, fmt.Errorf("read its first bytes: the server reports error %d", answer.Err)
	}
	if _, err := io.ReadFull(rw, head); err != nil {
		return nil, fmt.Errorf("read its first bytes: %w", err)
	}
	return head, nbdSend(rw, uint32(nbdAskMagic), uint16(0), uint16(nbdCmdDisc), uint64(2), uint64(0), uint32(0))
}

// nbdGreet reads the server's greeting and answers it.
func nbdGreet(rw io.ReadWriter) error {
	var hello struct {
		Magic, Opt uint64
		Flags      uint16
	}
	if err := nbdReceive(rw, &hello); err != nil {
		return err
	}
	if hello.Magic != nbdMagic || hello.Opt != nbdOptMagic || hello.Flags&nbdFlagFixed == 0 {
		return errors.New("it is no NBD server with fixed newstyle negotiation")
	}
	return nbdSend(rw, uint32(nbdClientFlags))
}

// nbdReply reads one reply to an option.
func nbdReply(r io.Reader, option uint32) (kind uint32, data []byte, err error) {
	var h struct {
		Magic           uint64
		Opt, Kind, Size uint32
	}
	if err := nbdReceive(r, &h); err != nil {
		return 0, nil, err
	}
	if h.Magic != nbdReplyMagic || h.Opt != option || h.Size > nbdReplyMost {
		return 0, nil, errors.New("the reply to an option is not NBD's")
	}
	data = make([]byte, h.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("read the server's reply: %w", err)
	}
	return h.Kind, data, nil
}

// nbdStartTLS asks for TLS, which begins when it returns without an error.
func nbdStartTLS(rw io.ReadWriter) error {
	if err := nbdSend(rw, uint64(nbdOptMagic), uint32(nbdOptStartTLS), uint32(0)); err != nil {
		return err
	}
	kind, data, err := nbdReply(rw, nbdOptStartTLS)
	switch {
	case err != nil:
		return err
	case kind&nbdRepError != 0:
		return fmt.Errorf("the server offers no TLS (it says %q): have it serve the export by TLS (qemu-nbd --tls-creds)", data)
	case kind != nbdRepAck:
		return errors.New("the reply to an option is not NBD's")
	}
	return nil
}

// nbdGo asks for the export, reads the replies and returns its size.
func nbdGo(rw io.ReadWriter, export string) (size uint64, err error) {
	name := []byte(export)
	if err := nbdSend(rw, uint64(nbdOptMagic), uint32(nbdOptGo), uint32(4+len(name)+2), uint32(len(name)), name, uint16(0)); err != nil {
		return 0, err
	}
	var readOnly bool
	for {
		kind, data, err := nbdReply(rw, nbdOptGo)
		if err != nil {
			return 0, err
		}
		switch {
		case kind&nbdRepError != 0:
			return 0, nbdRefusal(kind, data)
		case kind == nbdRepInfo && len(data) >= 12 && binary.BigEndian.Uint16(data) == nbdInfoExport:
			size = binary.BigEndian.Uint64(data[2:])
			readOnly = binary.BigEndian.Uint16(data[10:])&nbdExportRO != 0
		case kind == nbdRepAck && readOnly:
			return 0, errReadOnly
		case kind == nbdRepAck && size == 0:
			return 0, errors.New("the export is empty: put the content there")
		case kind == nbdRepAck:
			return size, nil
		}
	}
}

func nbdRefusal(kind uint32, text []byte) error {
	switch kind {
	case nbdErrTLS:
		return errors.New("the server wants TLS: name the image by nbds://, in a domain of your own give its source tls='yes'")
	case nbdErrUnknown:
		return fmt.Errorf("the server has no such export (it says %q)", text)
	}
	return fmt.Errorf("the server refuses the export (reply %#x, it says %q)", kind, text)
}

func nbdSend(w io.Writer, fields ...any) error {
	var b bytes.Buffer
	for _, f := range fields {
		if err := binary.Write(&b, binary.BigEndian, f); err != nil {
			return fmt.Errorf("encode a message to the NBD server: %w", err)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("ask the NBD server: %w", err)
	}
	return nil
}

func nbdReceive(r io.Reader, v any) error {
	if err := binary.Read(r, binary.BigEndian, v); err != nil {
		return fmt.Errorf("hear from the NBD server: %w", err)
	}
	return nil
}
