/* Greets its arguments; says as whom it runs, since there is no shell in the image to ask. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *greeting = getenv("GREETING");

    for (int i = 1; i < argc; i++)
        printf("%s, %s!\n", greeting ? greeting : "Hi", argv[i]);
    printf("uid %d pid %d\n", (int)getuid(), (int)getpid());
    return 0;
}
