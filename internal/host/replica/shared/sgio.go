package shared

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sgHeader is struct sg_io_hdr of <scsi/sg.h>, on machines of 64 bits.
type sgHeader struct {
	interfaceID              int32
	direction                int32
	commandBytes, senseBytes uint8
	vectors                  uint16
	bytes                    uint32
	data, command, sense     unsafe.Pointer
	timeout                  uint32 // ms
	flags                    uint32
	id                       int32
	user                     unsafe.Pointer
	status, masked, message  uint8
	senseWritten             uint8
	host, driver             uint16
	residual                 int32
	duration, info           uint32
}

const (
	sgIO          = 0x2285 // <scsi/sg.h>
	toDevice      = -2
	fromDevice    = -3
	commandWithin = 5000 // ms
)

// command sends one command and its data, or reads into data, and gives what came.
func command(fd int, cdb, data []byte, direction int32) ([]byte, error) {
	sense := make([]byte, 64)
	h := &sgHeader{
		interfaceID: 'S', direction: direction, commandBytes: uint8(len(cdb)), senseBytes: uint8(len(sense)), bytes: uint32(len(data)),
		data: unsafe.Pointer(&data[0]), command: unsafe.Pointer(&cdb[0]), sense: unsafe.Pointer(&sense[0]), timeout: commandWithin,
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sgIO, uintptr(unsafe.Pointer(h)))
	runtime.KeepAlive(data)
	runtime.KeepAlive(cdb)
	runtime.KeepAlive(sense)
	switch {
	case errors.Is(errno, unix.ENOTTY):
		return nil, fmt.Errorf("%w: it takes no SCSI commands", ErrNone)
	case errors.Is(errno, unix.ENODEV), errors.Is(errno, unix.ENXIO), errors.Is(errno, unix.EIO):
		return nil, fmt.Errorf("%w: %w", ErrPath, errno)
	case errno != 0:
		return nil, fmt.Errorf("ioctl SG_IO: %w", errno)
	}
	if err := (answer{h.status, h.host, h.driver, sense[:min(int(h.senseWritten), len(sense))]}).err(); err != nil {
		return nil, err
	}
	return data[:len(data)-min(max(int(h.residual), 0), len(data))], nil
}
