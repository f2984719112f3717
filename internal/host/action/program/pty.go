package program

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openPTY opens a terminal: the master, and the slave for the program. It is
// wide, so that prompts are not wrapped, and gives \n as \n.
func openPTY() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("unlock the terminal: %w", err), master.Close())
	}
	// By the master and not by its name: /dev/pts may be that of another namespace.
	sfd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, nil, errors.Join(fmt.Errorf("open the terminal's other end: %w", errno), master.Close())
	}
	slave = os.NewFile(sfd, "tty")
	if err := setUp(int(sfd)); err != nil {
		return nil, nil, errors.Join(err, master.Close(), slave.Close())
	}
	return master, slave, nil
}

func setUp(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read the terminal's settings: %w", err)
	}
	t.Oflag &^= unix.ONLCR
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("set up the terminal: %w", err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 500}); err != nil {
		return fmt.Errorf("set the terminal's size: %w", err)
	}
	return nil
}

// echoes reports whether the terminal shows what is typed. The master knows the
// settings of the slave.
func echoes(master *os.File) (bool, error) {
	conn, err := master.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("use the terminal: %w", err)
	}
	var t *unix.Termios
	var ierr error
	err = conn.Control(func(fd uintptr) { t, ierr = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	if err := errors.Join(err, ierr); err != nil {
		return false, fmt.Errorf("read the terminal's settings: %w", err)
	}
	return t.Lflag&unix.ECHO != 0, nil
}
