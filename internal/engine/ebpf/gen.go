package ebpf

//go:generate go tool bpf2go -no-global-types -target amd64,arm64 -type kind -type counter -type runtime_layout -type trace_scope -type stack -type stack_read -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -fdebug-prefix-map=/=" gtrace bpf/gtrace.bpf.c
