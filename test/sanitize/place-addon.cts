/**
 * Loaded into a Node before all else: where this project's addon is opened, the file that VOLSEAL_TEST_ADDON names is
 * opened instead. CommonJS by --require, because threads that threads start do not get what --import names (Node 20).
 */
{
  const open = process.dlopen;
  const addon = process.env.VOLSEAL_TEST_ADDON;
  if (addon === undefined) throw new Error('VOLSEAL_TEST_ADDON names no file');

  process.dlopen = function (module, path, ...flags) {
    Reflect.apply(open, this, [module, path.endsWith('/build/Release/volseal.node') ? addon : path, ...flags]);
  };
}
