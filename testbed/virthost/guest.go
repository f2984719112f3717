package virthost

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// Filler makes a raw image with a boot sector that writes into
// every page from 1 MiB to 48 MiB: once, then it halts, or at each tick of its clock for ever.
func Filler(t *testing.T, path string, forever bool) {
	t.Helper()
	code := []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax,ax
		0x8e, 0xd8, // mov ds,ax
		0x0f, 0x01, 0x16, 0x80, 0x7c, // lgdt [0x7c80]
		0x0f, 0x20, 0xc0, // mov eax,cr0
		0x0c, 0x01, // or al,1: protected mode, to load a segment of 4 GiB
		0x0f, 0x22, 0xc0, // mov cr0,eax
		0xbb, 0x08, 0x00, // mov bx,8
		0x8e, 0xdb, // mov ds,bx
		0x24, 0xfe, // and al,0xfe: and back, the segment's limit stays
		0x0f, 0x22, 0xc0, // mov cr0,eax
		0x66, 0x31, 0xd2, // xor edx,edx
	}
	outer := len(code)
	code = append(code,
		0x66, 0x42, // inc edx
		0x66, 0xbf, 0, 0, 0x10, 0, // mov edi,1 MiB
	)
	inner := len(code)
	code = append(code,
		0x67, 0x66, 0x89, 0x17, // mov [edi],edx
		0x66, 0x81, 0xc7, 0, 0x10, 0, 0, // add edi,4096
		0x66, 0x81, 0xff, 0, 0, 0, 0x03, // cmp edi,48 MiB
	)
	code = append(code, 0x72, byte(inner-len(code)-2)) // jb inner
	if forever {
		// 18 rounds a second are more than a migration of these tests takes along.
		code = append(code, 0xfb, 0xf4, 0xfa)              // sti; hlt; cli: until the clock ticks
		code = append(code, 0xeb, byte(outer-len(code)-2)) // jmp outer
	}
	code = append(code, 0xf4, 0xeb, 0xfd) // hlt; jmp hlt
	disk := make([]byte, 1<<20)
	copy(disk, code)
	binary.LittleEndian.PutUint16(disk[0x80:], 15)                // size of the descriptor table - 1
	binary.LittleEndian.PutUint32(disk[0x82:], 0x7c88)            // its address
	copy(disk[0x90:], []byte{0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0}) // data, base 0, limit 4 GiB
	copy(disk[510:], []byte{0x55, 0xaa})                          // boot signature
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Marker is in the memory of guests whose disk Mark has marked.
const Marker = "HOLDFAST-GUEST-MEMORY-MARKER-98c0de"

// Mark writes the marker into the boot sector, which the BIOS reads into memory. More than
// once: one of them may be cut in two by frames.
func Mark(t *testing.T, image string) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0x100); at < 0x1d0; at += 0x40 {
		_, werr := f.WriteAt([]byte(Marker), at)
		err = errors.Join(err, werr)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
