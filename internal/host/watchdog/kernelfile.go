package watchdog

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ioctlFile is the kernelFile of a real device. It holds no decisions.
type ioctlFile struct {
	*os.File
}

func openKernelFile(path string) (kernelFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return ioctlFile{f}, nil
}

func (f ioctlFile) Support() (string, uint32, error) {
	info, err := unix.IoctlGetWatchdogInfo(int(f.Fd()))
	if err != nil {
		return "", 0, fmt.Errorf("WDIOC_GETSUPPORT: %w", err)
	}
	return unix.ByteSliceToString(info.Identity[:]), info.Options, nil
}

func (f ioctlFile) SetTimeout(seconds int) error {
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return fmt.Errorf("WDIOC_SETTIMEOUT: %w", err)
	}
	return nil
}

func (f ioctlFile) Timeout() (int, error) {
	s, err := unix.IoctlGetUint32(int(f.Fd()), unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return 0, fmt.Errorf("WDIOC_GETTIMEOUT: %w", err)
	}
	return int(int32(s)), nil
}

func (f ioctlFile) KeepAlive() error {
	if err := unix.IoctlWatchdogKeepalive(int(f.Fd())); err != nil {
		return fmt.Errorf("WDIOC_KEEPALIVE: %w", err)
	}
	return nil
}
