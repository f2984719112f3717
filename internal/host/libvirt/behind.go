package libvirt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// This file reads what lies behind an image: a qcow2 names its base, and the file with its data when
// that is another one (QEMU's docs/interop/qcow2). QEMU does not start without them.

// Of a qcow2's header. All numbers are big endian.
const (
	qcow2V2     = 72  // bytes of a header of version 2
	qcow2V3     = 104 // of version 3 at least; its length is at 100
	qcow2Data   = 1 << 2
	qcow2ExtEnd = 0
	qcow2ExtRaw = 0x44415441 // the name of the file with the data
	qcow2Name   = 1023       // bytes of a name at most
	behindMost  = 200        // images behind one another
)

// behind returns the names that an image has of its base and of the file with its data, "" for none.
func behind(path string) (base, data string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	head := make([]byte, qcow2V3)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", "", err
	}
	if n < qcow2V2 || formatOf(head) != formatQcow2 {
		return "", "", nil
	}
	text := func(at int64, size uint32) (string, error) {
		if size > qcow2Name {
			return "", fmt.Errorf("a name has %d bytes", size)
		}
		b := make([]byte, size)
		_, err := f.ReadAt(b, at)
		return string(b), err
	}
	if at := int64(binary.BigEndian.Uint64(head[8:])); at > 0 {
		if base, err = text(at, binary.BigEndian.Uint32(head[16:])); err != nil {
			return "", "", err
		}
	}
	if n < qcow2V3 || binary.BigEndian.Uint32(head[4:]) < 3 || binary.BigEndian.Uint64(head[72:])&qcow2Data == 0 {
		return base, "", nil
	}
	at := int64(binary.BigEndian.Uint32(head[100:]))
	for range behindMost { // extensions: type, size, content up to a multiple of 8 bytes
		ext := make([]byte, 8)
		if _, err := f.ReadAt(ext, at); err != nil {
			return "", "", err
		}
		kind, size := binary.BigEndian.Uint32(ext), binary.BigEndian.Uint32(ext[4:])
		switch kind {
		case qcow2ExtEnd:
			return base, "", nil
		case qcow2ExtRaw:
			data, err = text(at+8, size)
			return base, data, err
		}
		at += 8 + (int64(size)+7)&^7
	}
	return base, "", nil
}

// checkBehind makes sure that all that lies behind an image is there. What is no file is left to QEMU.
func checkBehind(what, path string) error {
	for range behindMost {
		base, data, err := behind(path)
		if err != nil {
			return fmt.Errorf("%s: read what lies behind %s: %w", what, path, err)
		}
		if data != "" {
			if _, err := checkFile(what+": the data of "+path, beside(path, data)); err != nil {
				return err
			}
		}
		if base = strings.TrimPrefix(base, "file:"); base == "" || strings.Contains(base, ":") {
			return nil
		}
		base = beside(path, base)
		if _, err := checkFile(what+": the base of "+path, base); err != nil {
			return err
		}
		path = base
	}
	return fmt.Errorf("%s: more than %d images lie behind one another", what, behindMost)
}

// beside is a name as the image at path means it.
func beside(path, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(path), name)
}
