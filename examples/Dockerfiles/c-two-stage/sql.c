/* Runs each argument as SQL against a database in memory and prints the rows. */
#include <sqlite3.h>
#include <stdio.h>

static int print_row(void *unused, int columns, char **values, char **names)
{
    (void)unused;
    (void)names;
    for (int i = 0; i < columns; i++)
        printf("%s%s", i ? "|" : "", values[i] ? values[i] : "NULL");
    putchar('\n');
    return 0;
}

int main(int argc, char **argv)
{
    sqlite3 *database;
    char *message = NULL;

    if (sqlite3_open(":memory:", &database) != SQLITE_OK)
        return 1;
    for (int i = 1; i < argc; i++) {
        if (sqlite3_exec(database, argv[i], print_row, NULL, &message) != SQLITE_OK) {
            fprintf(stderr, "sql: %s\n", message);
            return 1;
        }
    }
    return sqlite3_close(database) != SQLITE_OK;
}
