package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/bundle"
)

// signer are the flags of a command that signs.
type signer struct{ key, passwordFile string }

func (s *signer) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.key, "key", "", "`file` with the minisign secret key")
	cmd.Flags().StringVar(&s.passwordFile, "password-file", "", "`file` with the key's password, in its first line")
}

func bundleKeygenCmd(a *command.App) *cobra.Command {
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
				return command.Usage(cmd, errors.New("--no-password and --password-file exclude each other"))
			}
			return keygen(cmd.Context(), a, args[0], passwordFile, bare)
		},
	}
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "`file` with the password, in its first line")
	cmd.Flags().BoolVar(&bare, "no-password", false, "do not encrypt the secret key")
	return cmd
}

func keygen(ctx context.Context, a *command.App, name, passwordFile string, bare bool) error {
	var password string
	var err error
	if !bare {
		if password, err = a.Password(ctx, passwordFile, "Password for the new key: "); err != nil {
			return err
		}
		if password == "" {
			return fail.Errorf(fail.Invalid, "make a key: the password is empty").With("--no-password makes a key without one")
		}
	}
	if !bare && passwordFile == "" {
		again, err := a.Password(ctx, "", "The same once more: ")
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
	return output.Text(a.Env.Stdout,
		fmt.Sprintf("key %s: %s signs, %s checks\n", pair.ID, output.Clean(name+".key"), output.Clean(name+".pub")))
}

// writeSecure writes a file that must not exist; a failure leaves none behind.
func writeSecure(what, path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return command.NotNew("write the "+what, path, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the %s: %w", what, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// secretKey reads the key that signs.
func secretKey(ctx context.Context, a *command.App, by signer) (bundle.PrivateKey, error) {
	text, err := command.ReadSmall(by.key)
	if err != nil {
		return bundle.PrivateKey{}, fail.Errorf(fail.Invalid, "read the secret key: %w", err)
	}
	key, err := bundle.ParsePrivateKey(text, func() (string, error) {
		return a.Password(ctx, by.passwordFile, "Password of "+output.Clean(by.key)+": ")
	})
	if err != nil {
		return bundle.PrivateKey{}, fail.Errorf(fail.Invalid, "%s: %w", by.key, err)
	}
	return key, nil
}
