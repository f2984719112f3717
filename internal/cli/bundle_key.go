package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/bundle"
)

// maxKeyFile is more than a key, a signature or a password has, in bytes.
const maxKeyFile = 4 << 10

// signer are the flags of a command that signs.
type signer struct{ key, passwordFile string }

func (s *signer) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.key, "key", "", "`file` with the minisign secret key")
	cmd.Flags().StringVar(&s.passwordFile, "password-file", "", "`file` with the key's password, in its first line")
}

func (a *app) bundleKeygenCmd() *cobra.Command {
	var passwordFile string
	var bare bool
	cmd := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make a pair of keys for bundles",
		Long: `Makes the new files NAME.key, the secret key that signs, and NAME.pub, the
public key that checks. They are keys of minisign. The secret key is encrypted
with a password, which needs 1 GiB of memory for some seconds.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if bare && passwordFile != "" {
				return usage(cmd, errors.New("--no-password and --password-file exclude each other"))
			}
			return a.keygen(cmd.Context(), args[0], passwordFile, bare)
		},
	}
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "`file` with the password, in its first line")
	cmd.Flags().BoolVar(&bare, "no-password", false, "do not encrypt the secret key")
	return cmd
}

func (a *app) keygen(ctx context.Context, name, passwordFile string, bare bool) error {
	var password string
	var err error
	if !bare {
		if password, err = a.password(ctx, passwordFile, "Password for the new key: "); err != nil {
			return err
		}
		if password == "" {
			return fail.Errorf(fail.Invalid, "make a key: the password is empty").With("--no-password makes a key without one")
		}
	}
	if !bare && passwordFile == "" {
		again, err := a.password(ctx, "", "The same once more: ")
		if err != nil {
			return err
		}
		if again != password {
			return fail.Errorf(fail.Invalid, "make a key: the passwords differ")
		}
	}
	pair, err := bundle.GenerateKey(password)
	if err != nil {
		return err
	}
	if err := writeSecure("key", name+".key", pair.Secret, 0o600); err != nil {
		return err
	}
	if err := writeSecure("key", name+".pub", pair.Public, 0o644); err != nil {
		return errors.Join(err, os.Remove(name+".key"))
	}
	return writeText(a.env.Stdout, fmt.Sprintf("key %s: %s signs, %s checks\n", pair.ID, clean(name+".key"), clean(name+".pub")))
}

// writeSecure writes a file that must not exist; a failure leaves none behind.
func writeSecure(what, path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return notNew("write the "+what, path, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the %s: %w", what, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// secretKey reads the key that signs.
func (a *app) secretKey(ctx context.Context, by signer) (bundle.PrivateKey, error) {
	text, err := readSmall(by.key)
	if err != nil {
		return bundle.PrivateKey{}, fail.Errorf(fail.Invalid, "read the secret key: %w", err)
	}
	key, err := bundle.ParsePrivateKey(text, func() (string, error) {
		return a.password(ctx, by.passwordFile, "Password of "+clean(by.key)+": ")
	})
	if err != nil {
		return bundle.PrivateKey{}, fail.Errorf(fail.Invalid, "%s: %w", by.key, err)
	}
	return key, nil
}

// readSmall reads a file that has to be small.
func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s: want at most %d bytes", path, maxKeyFile)
	}
	return text, err
}

// password reads the first line of a file, or asks on a terminal.
func (a *app) password(ctx context.Context, file, prompt string) (string, error) {
	if file != "" {
		text, err := readSmall(file)
		if err != nil {
			return "", fail.Errorf(fail.Invalid, "read the password: %w", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		return strings.TrimSuffix(line, "\r"), nil
	}
	in, ok := a.env.Stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return "", fail.Errorf(fail.Invalid, "read the password: stdin is not a terminal").With("give it in a file, by --password-file")
	}
	if err := writeText(a.env.Stderr, prompt); err != nil {
		return "", err
	}
	line, err := readHidden(ctx, in)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return line, writeText(a.env.Stderr, "\n")
}

// readHidden reads a line of a terminal that does not show it.
func readHidden(ctx context.Context, in *os.File) (line string, err error) {
	before, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return "", err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &quiet); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, before)) }()
	r := source(ctx, in)
	var text []byte
	for one := make([]byte, 1); len(text) < maxKeyFile; {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		text = append(text, one[:n]...)
	}
	return string(text), nil
}
