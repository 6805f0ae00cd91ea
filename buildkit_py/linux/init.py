"""Process 1 of a container with ``--init``: x86-64 code that goes before the trampoline's.

It forks. The child goes on into the trampoline (buildkit_py.linux.trampoline), in a process group of its
own that is the terminal's foreground where there is one, and so becomes the command. The parent stays as
process 1, 200 bytes in sealed memory, for a Python that stayed would show the host's interpreter as
/proc/1/exe: it collects every process that dies, passes every signal on to the command, and ends as the
command does, with 128+n after signal n.
"""

from __future__ import annotations

CODE = bytes.fromhex(
    "4989e4"  # mov r12, rsp             argc, argv, envp
    "6aff 4889e6"  # push -1; mov rsi, rsp    all signals
    "31ff 31d2 6a08 415a"  # xor edi, edi; xor edx, edx; push 8; pop r10
    "6a0e 58 0f05"  # rt_sigprocmask(SIG_BLOCK, rsi, 0, 8)
    "6a24 5f 6a01 5e"  # push 36; pop rdi; push 1; pop rsi
    "b89d000000 0f05"  # prctl(PR_SET_CHILD_SUBREAPER, 1)
    "6a39 58 0f05"  # fork()
    "85c0 746c 7863"  # test eax, eax; jz child; js fail
    "89c3"  # mov ebx, eax             the command
    # wait:
    "4889e7 31f6 31d2 6a08 415a"  # mov rdi, rsp; xor esi, esi; xor edx, edx; push 8; pop r10
    "b880000000 0f05"  # rt_sigtimedwait(rdi, 0, 0, 8)
    "85c0 78ea 83f811 740b"  # test eax, eax; js wait; cmp eax, SIGCHLD; je reap
    "89c6 89df 6a3e 58 0f05"  # kill(ebx, eax)
    "ebda"  # jmp wait
    # reap:
    "6a00 4889e6 83cfff 6a01 5a"  # push 0; mov rsi, rsp; or edi, -1; push WNOHANG; pop rdx
    "4531d2 6a3d 58 0f05 5f"  # wait4(-1, rsi, WNOHANG, 0); pop rdi
    "85c0 7ec2 39d8 75e4"  # test eax, eax; jle wait; cmp eax, ebx; jne reap
    "89f9 83e17f 7408"  # mov ecx, edi; and ecx, 127; jz exited
    "8db980000000 eb09"  # lea edi, [rcx+128]; jmp leave
    "c1ef08 81e7ff000000"  # exited: shr edi, 8; and edi, 255
    "b8e7000000 0f05"  # leave: exit_group(edi)
    "bf7d000000 ebf2"  # fail: mov edi, 125; jmp leave
    # child:
    "31ff 31f6 6a6d 58 0f05"  # setpgid(0, 0)
    "6a27 58 0f05 50"  # getpid(); push rax
    "31ff be10540000 4889e2 6a10 58 0f05 58"  # ioctl(0, TIOCSPGRP, rsp); pop rax
    "48c7042400000000 4889e6"  # mov qword [rsp], 0; mov rsi, rsp
    "6a02 5f 31d2 6a08 415a 6a0e 58 0f05"  # rt_sigprocmask(SIG_SETMASK, rsi, 0, 8)
    "4c89e4"  # mov rsp, r12
)
"""Ends where the trampoline's code begins, with the stack as the kernel laid it out."""
