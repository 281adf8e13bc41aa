package doctor

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"runtime"
	"strings"
)

// machines are the names that uname gives to Go's architectures.
var machines = map[string]struct {
	elf  elf.Machine
	name string
}{
	"amd64": {elf.EM_X86_64, "x86_64"}, "arm64": {elf.EM_AARCH64, "aarch64"}, "386": {elf.EM_386, "i386"},
	"arm": {elf.EM_ARM, "arm"}, "riscv64": {elf.EM_RISCV, "riscv64"}, "ppc64le": {elf.EM_PPC64, "ppc64le"},
	"s390x": {elf.EM_S390, "s390x"}, "loong64": {elf.EM_LOONGARCH, "loongarch64"},
}

// elf says what keeps an ELF file from running here, "" if nothing is seen.
func (s *sandbox) elf(program string) string {
	in := root(cmp.Or(s.root, "/"))
	f, err := openRegular(in.path(program))
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 20)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:4]) != elf.ELFMAG {
		if string(head[:2]) == "#!" {
			return "its interpreter is not there"
		}
		return "it is no program"
	}
	machine := elf.Machine(uint16(head[18]) | uint16(head[19])<<8)
	if head[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		machine = elf.Machine(uint16(head[19]) | uint16(head[18])<<8)
	}
	if here := machines[runtime.GOARCH]; machine != here.elf {
		name := strings.ToLower(strings.TrimPrefix(machine.String(), "EM_"))
		for _, m := range machines {
			if m.elf == machine {
				name = m.name
			}
		}
		return fmt.Sprintf("it is built for %s, this machine is %s", name, here.name)
	}
	file, err := elf.NewFile(f)
	if err != nil {
		return "it is damaged: " + err.Error()
	}
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		loader, err := io.ReadAll(p.Open())
		if err != nil {
			return "it is damaged: " + err.Error()
		}
		if name := strings.TrimRight(string(loader), "\x00"); name != "" {
			if _, err := in.resolve(name); err != nil {
				return fmt.Sprintf("its loader %s is not there", name)
			}
		}
	}
	return ""
}
