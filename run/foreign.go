package run

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// binfmtDir is where the kernel lists what it starts programs of other formats
// with; see Linux's Documentation/admin-guide/binfmt-misc.rst.
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// CheckPlatform reports whether containers can run programs for p: those of this
// machine's own kind, and those that the kernel has a handler for which works in
// containers. The error says what is missing and how to get it. An architecture
// that it does not know is taken as it is.
func CheckPlatform(p ocispec.Platform) error { return checkPlatform(binfmtDir, p) }

func checkPlatform(dir string, p ocispec.Platform) error {
	host := platforms.DefaultSpec()
	header, known := elfHeader(p.Architecture)
	if p.Architecture == host.Architecture || platforms.Default().Match(p) || !known {
		return nil
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("programs for %s do not run on this machine (%s): "+format, append([]any{platforms.Format(p), platforms.Format(host)}, args...)...)
	}
	const install = "install an emulator and its handlers (Debian: apt install qemu-user-static binfmt-support; Fedora: dnf install qemu-user-static)"
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("%s is not mounted. As root, mount -t binfmt_misc binfmt_misc %[3]s, and %s", dir, install)
	case err != nil:
		return fail("%w", err)
	case strings.TrimSpace(string(status)) == "disabled":
		return fail("handlers of other formats are disabled. As root, echo 1 > %s/status", dir)
	}
	handlers, err := readHandlers(dir)
	if err != nil {
		return fail("%w", err)
	}
	var unfit error
	for _, h := range handlers {
		switch {
		case !h.matches(header):
		case !h.enabled:
			unfit = fail("their handler %s is disabled. As root, echo 1 > %s/%s", h.name, dir, h.name)
		case !strings.Contains(h.flags, "F"):
			unfit = fail("their handler %s (%s) lacks the flag F, without which the emulator would have to be in the image: register it anew with F, as Debian's qemu-user-static does", h.name, h.interpreter)
		default:
			return nil
		}
	}
	if unfit != nil {
		return unfit
	}
	return fail("%s has no handler for them: %s", dir, install)
}

// handler is a registered one.
type handler struct {
	name, interpreter, flags string
	enabled                  bool
	offset                   int
	magic, mask              []byte
}

// readHandlers reads those that go by a file's first bytes.
func readHandlers(dir string) ([]handler, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []handler
	for _, f := range files {
		if f.Name() == "register" || f.Name() == "status" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken away just now
		}
		if err != nil {
			return nil, err
		}
		if h, ok := parseHandler(string(text)); ok {
			h.name = f.Name()
			found = append(found, h)
		}
	}
	return found, nil
}

// parseHandler reads the kernel's description of a handler. One that goes by file
// names has no magic, and is not ok.
func parseHandler(text string) (h handler, ok bool) {
	var err error
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "enabled":
			h.enabled = true
		case "interpreter":
			h.interpreter = value
		case "flags:":
			h.flags = value
		case "offset":
			h.offset, err = strconv.Atoi(value)
		case "magic":
			h.magic, err = hex.DecodeString(value)
		case "mask":
			h.mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return h, false
		}
	}
	return h, len(h.magic) > 0 && h.offset >= 0 && (h.mask == nil || len(h.mask) == len(h.magic))
}

// matches reports whether the kernel would use h for a file that begins so.
func (h *handler) matches(header []byte) bool {
	if h.offset+len(h.magic) > len(header) {
		return false
	}
	for i, want := range h.magic {
		mask := byte(0xff)
		if h.mask != nil {
			mask = h.mask[i]
		}
		if (header[h.offset+i]^want)&mask != 0 {
			return false
		}
	}
	return true
}

// machines are ELF's numbers and sizes of architectures, by Go's names.
var machines = map[string]struct {
	class, data byte // 1: 32 bits, 2: 64 bits; 1: little, 2: big endian
	machine     uint16
}{
	"386": {1, 1, 3}, "amd64": {2, 1, 62}, "arm": {1, 1, 40}, "arm64": {2, 1, 183}, "loong64": {2, 1, 258},
	"mips": {1, 2, 8}, "mipsle": {1, 1, 8}, "mips64": {2, 2, 8}, "mips64le": {2, 1, 8},
	"ppc64": {2, 2, 21}, "ppc64le": {2, 1, 21}, "riscv64": {2, 1, 243}, "s390x": {2, 2, 22},
}

// elfHeader is how a program for an architecture begins.
func elfHeader(arch string) (header []byte, known bool) {
	m, known := machines[arch]
	if !known {
		return nil, false
	}
	header = make([]byte, 64)
	copy(header, []byte{0x7f, 'E', 'L', 'F', m.class, m.data, 1})
	var order binary.ByteOrder = binary.LittleEndian
	if m.data == 2 {
		order = binary.BigEndian
	}
	order.PutUint16(header[16:], 2) // an executable
	order.PutUint16(header[18:], m.machine)
	order.PutUint32(header[20:], 1)
	return header, true
}
